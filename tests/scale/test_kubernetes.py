"""What Kustomize makes of deploy/kubernetes/ is valid, to the last field, and belongs together."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pydantic
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

from tests.manifests import (
    BASE,
    KEDA,
    KSERVE,
    KUBERNETES,
    PROJECT,
    Manifest,
    container_of,
    of_kind,
    pod_of,
    render,
    selectors,
)

OLDEST, NEWEST = "1.27", "1.37"
"""Versions of Kubernetes: docs/scaling.md names the oldest."""

CUSTOM = {
    "keda.sh/v1alpha1/ScaledObject": ScaledObject,
    "monitoring.coreos.com/v1/PodMonitor": PodMonitor,
    "monitoring.coreos.com/v1/PrometheusRule": PrometheusRule,
}
"""Models of those who define these kinds, made from their definitions."""

SCALING = (PROJECT / "docs" / "scaling.md").read_text()
LABELS = {"app.kubernetes.io/name": "convpool"}


class InvalidManifestError(Exception):
    """A manifest that a cluster would refuse, or whose fields it would leave out."""


def validate(manifest: Manifest, version: str) -> None:
    """Raise InvalidManifestError for a field that is unknown, missing or of another type."""
    model = CUSTOM.get(f"{manifest['apiVersion']}/{manifest['kind']}")
    try:
        if model is None:
            kubernetes_validate.validate(manifest, version, strict=True)
            return
        read = model.model_validate_json(pydantic.TypeAdapter(dict[str, Any]).dump_json(manifest), strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError, ValueError) as error:
        raise InvalidManifestError(str(error)) from error
    if read.model_dump(mode="json", by_alias=True, exclude_unset=True) != manifest:
        raise InvalidManifestError("the model leaves fields out")


@pytest.fixture(scope="module", params=[BASE, KEDA], ids=["base", "keda"])
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(request.param)


# --------------------------------------------------------------------------------------------------------------- valid


@pytest.mark.parametrize("version", [f"1.{minor}" for minor in range(27, 38)])
def test_every_object_is_valid(rendered: list[Manifest], version: str) -> None:
    for manifest in rendered:
        validate(manifest, version)


def test_the_oldest_version_is_the_one_in_the_docs() -> None:
    assert f"Kubernetes {OLDEST} or newer" in SCALING


def misspell(manifest: Manifest) -> None:
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")


def quote(manifest: Manifest) -> None:
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "45"


def leave_out(manifest: Manifest) -> None:
    del manifest["spec"]["selector"]


def misplace(manifest: Manifest) -> None:
    manifest["spec"]["securityContext"] = manifest["spec"]["template"]["spec"].pop("securityContext")


def outdate(manifest: Manifest) -> None:
    manifest["apiVersion"] = "extensions/v1beta1"


def misspell_trigger(manifest: Manifest) -> None:
    manifest["spec"]["triggers"][0]["metadatas"] = manifest["spec"]["triggers"][0].pop("metadata")


def misspell_behavior(manifest: Manifest) -> None:
    manifest["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behaviour"] = {}


def quote_replicas(manifest: Manifest) -> None:
    manifest["spec"]["maxReplicaCount"] = "10"


def number_threshold(manifest: Manifest) -> None:
    manifest["spec"]["triggers"][0]["metadata"]["threshold"] = 4


def misspell_interval(manifest: Manifest) -> None:
    manifest["spec"]["podMetricsEndpoints"][0]["intervall"] = "15s"


def number_port(manifest: Manifest) -> None:
    manifest["spec"]["podMetricsEndpoints"][0]["port"] = 9000


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("Deployment", misspell),
        ("Deployment", quote),
        ("Deployment", leave_out),
        ("Deployment", misplace),
        ("Deployment", outdate),
        ("ScaledObject", misspell_trigger),
        ("ScaledObject", misspell_behavior),
        ("ScaledObject", quote_replicas),
        ("ScaledObject", number_threshold),
        ("PodMonitor", misspell_interval),
        ("PodMonitor", number_port),
    ],
)
def test_a_mistake_is_refused(kind: str, spoil: Callable[[Manifest], None]) -> None:
    manifest = of_kind(render(KEDA), kind)
    validate(manifest, NEWEST)
    spoil(manifest)
    with pytest.raises(InvalidManifestError):
        validate(manifest, NEWEST)


def test_the_alerts_are_the_specification_of_a_rule_of_the_prometheus_operator() -> None:
    """As the docs say."""
    spec = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "alerts.yml").read_text())
    rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "convpool"}}
    validate({**rule, "spec": spec}, NEWEST)


def test_what_there_is() -> None:
    of_base = {manifest["kind"] for manifest in render(BASE)}
    of_keda = {manifest["kind"] for manifest in render(KEDA)}
    assert of_base == {
        *("ServiceAccount", "ConfigMap", "Deployment", "Service"),
        *("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"),
    }
    assert of_keda == of_base - {"HorizontalPodAutoscaler"} | {"ScaledObject", "PodMonitor"}
    assert [manifest["kind"] for manifest in render(KSERVE)] == ["InferenceService"]


def test_every_file_is_used() -> None:
    for file in KUBERNETES.rglob("kustomization.yaml"):
        text, beside = file.read_text(), {each.name for each in file.parent.iterdir()} - {file.name}
        assert {name for name in beside if name not in text} == set()


# ------------------------------------------------------------------------------------------------------- in one piece


def test_selectors_match_the_pods(rendered: list[Manifest]) -> None:
    labels = of_kind(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"]
    found = [each for manifest in rendered if "spec" in manifest for each in selectors(manifest)]
    assert len(found) >= 6  # of Deployment (three), Service, PodDisruptionBudget, NetworkPolicy
    assert all(selector and selector.items() <= labels.items() for selector in found)


def test_names_lead_to_what_is_there(rendered: list[Manifest]) -> None:
    deployment = of_kind(rendered, "Deployment")
    pod = pod_of(deployment)
    assert pod["serviceAccountName"] == of_kind(rendered, "ServiceAccount")["metadata"]["name"]
    (source,) = container_of(deployment)["envFrom"]
    assert source["configMapRef"]["name"] == of_kind(rendered, "ConfigMap")["metadata"]["name"]
    (scaler,) = (each for each in rendered if each["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"})
    target = {"apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert scaler["spec"]["scaleTargetRef"] == target
    assert "replicas" not in deployment["spec"]  # or applying it again would undo what the autoscaler did


def test_both_autoscalers_behave_alike() -> None:
    by_cpu = of_kind(render(BASE), "HorizontalPodAutoscaler")["spec"]
    by_load = of_kind(render(KEDA), "ScaledObject")["spec"]
    assert by_load["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == by_cpu["behavior"]
    assert (by_load["minReplicaCount"], by_load["maxReplicaCount"]) == (by_cpu["minReplicas"], by_cpu["maxReplicas"])
    assert by_load["fallback"]["replicas"] == by_cpu["maxReplicas"]
    assert by_cpu["minReplicas"] >= 2  # or a drained node would end the service, whatever the disruption budget


def test_no_pod_is_taken_before_its_successor_is_ready(rendered: list[Manifest]) -> None:
    assert of_kind(rendered, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert of_kind(rendered, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def restricted(pod: Manifest) -> bool:
    """Whether a pod passes the Pod Security Standard "restricted", as its documentation lists the rules."""
    context, containers = pod.get("securityContext", {}), pod["containers"] + pod.get("initContainers", [])
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    return (
        not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
        and all(volume.keys() - {"name"} <= allowed for volume in pod.get("volumes", ()))
        and all(not port.get("hostPort") for each in containers for port in each.get("ports", ()))
        and not context.get("sysctls")
        and all(
            own.get("allowPrivilegeEscalation") is False
            and not own.get("privileged")
            and own.get("capabilities", {}).get("drop") == ["ALL"]
            and set(own["capabilities"].get("add", ())) <= {"NET_BIND_SERVICE"}
            and own.get("runAsNonRoot", context.get("runAsNonRoot")) is True
            and own.get("runAsUser", context.get("runAsUser")) != 0
            and own.get("seccompProfile", context.get("seccompProfile", {})).get("type")
            in {"RuntimeDefault", "Localhost"}
            for own in (each.get("securityContext", {}) for each in containers)
        )
    )


def test_pods_pass_the_restricted_standard(rendered: list[Manifest]) -> None:
    for manifest in (of_kind(rendered, "Deployment"), of_kind(render(KSERVE), "InferenceService")):
        pod = pod_of(manifest)
        assert restricted(pod)
        for name in ("capabilities", "allowPrivilegeEscalation"):
            spoilt = copy.deepcopy(pod)
            del spoilt["containers"][0]["securityContext"][name]
            assert not restricted(spoilt)
        for name in ("runAsNonRoot", "seccompProfile"):
            spoilt = copy.deepcopy(pod)
            del spoilt["securityContext"][name]
            assert not restricted(spoilt)
        assert not restricted({**pod, "volumes": [{"name": "node", "hostPath": {"path": "/"}}]})


# ------------------------------------------------------------------------------------------------------------ overlays


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The overlay in the docs, beside a copy of the folders that it names."""
    shutil.copytree(KUBERNETES, tmp_path / "convpool" / "deploy" / "kubernetes")
    (block,) = re.findall(r"^```yaml\n(# kustomization.yaml\n.*?)^```", SCALING, re.MULTILINE | re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(block)
    return tmp_path


def test_the_overlay_in_the_docs(own: Path) -> None:
    manifests = render(own)
    for manifest in manifests:
        validate(manifest, OLDEST)
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"convpool"}
    deployment, settings = of_kind(manifests, "Deployment"), of_kind(manifests, "ConfigMap")
    assert container_of(deployment)["image"] == "registry.example.com/convpool:1.0"
    base = of_kind(render(BASE), "ConfigMap")["data"]
    assert settings["data"] == {
        **base,
        "CONVPOOL_MAX_BODY_BYTES": "134217728",
        "CONVPOOL_API_KEYS_FILE": "/etc/convpool/api-keys/keys",
    }
    assert container_of(deployment)["envFrom"][0]["configMapRef"]["name"] == settings["metadata"]["name"]
    assert restricted(pod_of(deployment))
    assert pod_of(deployment)["volumes"][0]["secret"]["secretName"] == "convpool-api-keys"
    assert {"PodMonitor", "HorizontalPodAutoscaler"} <= {manifest["kind"] for manifest in manifests}


def test_a_changed_setting_replaces_the_pods(own: Path) -> None:
    before = of_kind(render(own), "Deployment")
    file = own / "kustomization.yaml"
    file.write_text(file.read_text().replace("=134217728", "=134217729"))
    after = of_kind(render(own), "Deployment")
    assert before["spec"]["template"] != after["spec"]["template"]


def test_the_image_of_the_inference_service_can_be_set(tmp_path: Path) -> None:
    shutil.copytree(KSERVE, tmp_path / "kserve")
    overlay = {"resources": ["kserve"], "images": [{"name": "convpool", "newName": "registry.example.com/convpool"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    (manifest,) = render(tmp_path)
    assert container_of(manifest)["image"] == "registry.example.com/convpool"
