"""The InferenceService in deploy/kubernetes/kserve/ is one: KServe's own models know every field, with its type."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import kserve
import kubernetes.client
import pytest

from tests.manifests import KSERVE, Manifest, container_of, render

PRIMITIVES = {"str": str, "int": int, "bool": bool, "float": (int, float)}
FREE = ("object", "ResourceQuantity", "IntOrString")
"""Types of what may be a text or a number."""


def faults(value: Any, expected: str, place: str) -> Iterator[str]:
    """What does not fit the types that a model declares, in the notation of its generator."""
    container = re.fullmatch(r"[Ll]ist\[(.*)\]|[Dd]ict[(\[]str, (.*)[)\]]", expected)
    if container:
        items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else None
        if items is None or isinstance(value, list) != bool(container[1]):
            yield f"{place}: {value!r} is no {expected}"
            return
        for key, item in items:
            yield from faults(item, container[1] or container[2], f"{place}/{key}")
    elif expected in PRIMITIVES:
        if not isinstance(value, PRIMITIVES[expected]) or (isinstance(value, bool) and expected != "bool"):
            yield f"{place}: {value!r} is no {expected}"
    elif expected not in FREE:
        name = re.sub(r"^K8sIoApi(Apps|Core)", "", expected)  # how KServe's generator calls some of Kubernetes' types
        model = getattr(kserve, name, None) or getattr(kubernetes.client, name)
        if not isinstance(value, dict):
            yield f"{place}: {value!r} is no {expected}"
            return
        fields = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        for name in value:
            if name in fields:
                yield from faults(value[name], fields[name], f"{place}/{name}")
            else:
                yield f"{place}: {expected} has no field {name}"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    (rendered,) = render(KSERVE)
    return rendered


def test_kserve_knows_every_field(manifest: Manifest) -> None:
    assert f"{manifest['apiVersion']}/{manifest['kind']}" == "serving.kserve.io/v1beta1/InferenceService"
    assert list(faults(manifest, "V1beta1InferenceService", "")) == []


def misspell(manifest: Manifest) -> None:
    container = manifest["spec"]["predictor"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")


def quote(manifest: Manifest) -> None:
    manifest["spec"]["predictor"]["minReplicas"] = "2"


def misplace(manifest: Manifest) -> None:
    manifest["spec"]["containers"] = manifest["spec"]["predictor"].pop("containers")


def not_a_list(manifest: Manifest) -> None:
    manifest["spec"]["predictor"]["containers"] = manifest["spec"]["predictor"]["containers"][0]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (misspell, "/spec/predictor/containers/0: V1Container has no field readinesProbe"),
        (quote, "/spec/predictor/minReplicas: '2' is no int"),
        (misplace, "/spec: V1beta1InferenceServiceSpec has no field containers"),
        (not_a_list, "is no list[V1Container]"),
    ],
)
def test_a_mistake_is_found(manifest: Manifest, spoil: Callable[[Manifest], None], fault: str) -> None:
    spoilt = copy.deepcopy(manifest)
    spoil(spoilt)
    (found,) = faults(spoilt, "V1beta1InferenceService", "")
    assert fault in found


def test_what_kserve_reads_from_the_container(manifest: Manifest) -> None:
    container = container_of(manifest)
    assert container["name"] == "kserve-container"
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]
    assert [port["name"] for port in container["ports"]] == ["http1"]
