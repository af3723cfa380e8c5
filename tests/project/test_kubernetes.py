"""The manifests in deploy/kubernetes/ fit the service, the image and the other ways in which they are deployed.

That they are valid, and what Kustomize makes of them, is tested by tests/scale/test_kubernetes.py.
"""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
import yaml

from reliability.calls import small_calls
from reliability.load import Load
from service.settings import Settings, unknown_variables
from tests.clients import free_port, running_server
from tests.manifests import BASE, KSERVE, KUBERNETES, PROJECT, Manifest, container_of, load, number_of_bytes, pod_of
from tests.project.test_deploy import ALERTS, documented, metrics_in
from tests.service.metrics import Scrape, samples
from tests.service.test_serving import BODY, JSON, assert_answer, await_the_interim_response, head
from tests.service.test_shutdown import connected
from tests.waiting import wait_until

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]["convpool"]
IMAGE = (PROJECT / "Dockerfile").read_text()
DEPLOYMENT = load(BASE / "deployment.yaml")
INFERENCE = load(KSERVE / "inferenceservice.yaml")
SCALED = load(KUBERNETES / "components/keda/scaledobject.yaml")
MONITOR = load(KUBERNETES / "components/monitoring/podmonitor.yaml")
KEYS = load(KUBERNETES / "components/api-keys/deployment.yaml")
BOTH = pytest.mark.parametrize("manifest", [DEPLOYMENT, INFERENCE], ids=["Deployment", "InferenceService"])
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
SECONDS = 120.0


def settings_of(manifest: Manifest) -> dict[str, str]:
    """The service's environment: of a file, or in the container itself."""
    container = container_of(manifest)
    if "envFrom" in container:
        lines = (BASE / "settings.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {each["name"]: each["value"] for each in container["env"] if each["name"].startswith("CONVPOOL_")}


def port_of(container: Manifest, port: str | int) -> int:
    named = {each["name"]: each["containerPort"] for each in container["ports"]}
    return port if isinstance(port, int) else int(named[port])


# ------------------------------------------------------------------------------------------------------------- settings


def test_every_variable_is_a_setting() -> None:
    text = "".join(file.read_text() for file in KUBERNETES.rglob("*") if file.is_file())
    variables = set(re.findall(r"CONVPOOL_\w+", text))
    assert {"CONVPOOL_SHUTDOWN_DELAY", "CONVPOOL_API_KEYS_FILE"} <= variables
    assert unknown_variables(variables) == []


@BOTH
def test_the_settings_are_the_same_and_valid(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(manifest)
    assert found == settings_of(DEPLOYMENT)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert {
        name: str(getattr(settings, name.removeprefix("CONVPOOL_").lower())).split(".")[0] for name in found
    } == found


@BOTH
def test_the_ports_are_those_that_the_service_listens_on(manifest: Manifest) -> None:
    container, management = container_of(manifest), int(settings_of(manifest)["CONVPOOL_MANAGEMENT_PORT"])
    (port,) = re.findall(r"CONVPOOL_PORT=(\d+)", IMAGE)
    assert container["ports"][0]["containerPort"] == int(port)
    assert {each["containerPort"] for each in container["ports"]} <= {int(port), management}
    assert {port_of(container, container[probe]["httpGet"]["port"]) for probe in PROBES} == {int(port), management}
    assert port_of(container, container["livenessProbe"]["httpGet"]["port"]) == management


@BOTH
def test_the_grace_period_is_longer_than_the_service_takes_to_end(manifest: Manifest) -> None:
    settings = settings_of(manifest)
    longest = int(settings["CONVPOOL_SHUTDOWN_DELAY"]) + int(settings["CONVPOOL_GRACEFUL_SHUTDOWN"])
    assert pod_of(manifest)["terminationGracePeriodSeconds"] >= longest + 5
    assert settings["CONVPOOL_GRACEFUL_SHUTDOWN"] == str(Settings.model_fields["graceful_shutdown"].default)
    assert "lifecycle" not in container_of(manifest)  # a preStop would delay SIGTERM as well


@BOTH
def test_resources(manifest: Manifest) -> None:
    resources = container_of(manifest)["resources"]
    assert resources["requests"] == resources["limits"]  # the class Guaranteed
    assert resources["limits"]["cpu"].isdigit()  # whole CPUs
    memory = number_of_bytes(resources["limits"]["memory"])
    assert memory == number_of_bytes(COMPOSE["mem_limit"].replace("g", "Gi"))
    assert memory == 2 * int(settings_of(manifest)["CONVPOOL_MAX_MEMORY_BYTES"])
    assert settings_of(manifest)["CONVPOOL_MAX_MEMORY_BYTES"] == str(Settings.model_fields["max_memory_bytes"].default)


def test_a_request_may_take_as_long_as_the_service_lets_it() -> None:
    seconds = Settings.model_fields["queue_timeout"].default + Settings.model_fields["compute_timeout"].default
    assert INFERENCE["spec"]["predictor"]["timeout"] > seconds


# ------------------------------------------------------------------------------------------------------------- security


@BOTH
def test_it_is_hardened_as_in_compose(manifest: Manifest) -> None:
    pod, container = pod_of(manifest), container_of(manifest)
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] == COMPOSE["read_only"]
    assert own["capabilities"] == {"drop": COMPOSE["cap_drop"]}
    assert COMPOSE["security_opt"] == ["no-new-privileges:true"]
    assert own["allowPrivilegeEscalation"] is False
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE)[0]
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"} == set()


def test_the_container_is_the_same_everywhere() -> None:
    """But for its name, its port's name, and where its settings stand."""

    def shared(manifest: Manifest) -> Manifest:
        container = container_of(manifest)
        return {name: container[name] for name in container.keys() - {"name", "ports", "env", "envFrom", *PROBES}}

    def timing(manifest: Manifest, probe: str) -> Manifest:
        return {name: value for name, value in container_of(manifest)[probe].items() if name != "httpGet"}

    assert shared(DEPLOYMENT) == shared(INFERENCE)
    for probe in PROBES:
        assert timing(DEPLOYMENT, probe) == timing(INFERENCE, probe)


def test_the_api_keys_are_where_the_setting_says() -> None:
    component = load(KUBERNETES / "components/api-keys/kustomization.yaml")
    (literal,) = component["configMapGenerator"][0]["literals"]
    path = Path(literal.removeprefix("CONVPOOL_API_KEYS_FILE="))
    pod = pod_of(KEYS)
    (mount,), (volume,) = container_of(KEYS)["volumeMounts"], pod["volumes"]
    assert mount["mountPath"] == str(path.parent)
    assert "subPath" not in mount  # of which Kubernetes never renews the file
    assert mount["name"] == volume["name"]
    assert volume["secret"]["defaultMode"] == 0o440
    comment = (KUBERNETES / "components/api-keys/kustomization.yaml").read_text()
    assert f"create secret generic {volume['secret']['secretName']} --from-file={path.name}=" in comment


# ---------------------------------------------------------------------------------------------------------- observation


def test_the_autoscaler_asks_for_metrics_that_exist() -> None:
    (trigger,) = SCALED["spec"]["triggers"]
    named = metrics_in(trigger["metadata"]["query"])
    assert named == {"convpool_slots_in_use"}
    assert named <= documented().keys()


def test_prometheus_calls_the_job_as_alerts_and_queries_do() -> None:
    job = DEPLOYMENT["spec"]["template"]["metadata"]["labels"][MONITOR["spec"]["jobLabel"]]
    queries = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"] if "job=" in rule["expr"]]
    for query in (*queries, SCALED["spec"]["triggers"][0]["metadata"]["query"]):
        assert set(re.findall(r'job="(\w+)"', query)) == {job}


def test_everyone_asks_for_ports_that_the_container_names() -> None:
    names = {each["name"] for each in container_of(DEPLOYMENT)["ports"]}
    asked = [each["targetPort"] for each in load(BASE / "service.yaml")["spec"]["ports"]]
    asked += [each["port"] for each in MONITOR["spec"]["podMetricsEndpoints"]]
    for rule in load(BASE / "networkpolicy.yaml")["spec"]["ingress"]:
        asked += [each["port"] for each in rule["ports"]]
    assert set(asked) == names


# ------------------------------------------------------------------------------------------------------- a real service


class Running:
    """A service in the environment of the manifest, but for its ports, which tests must not fix."""

    def __init__(self, url: str, management: str, process: subprocess.Popen[bytes]) -> None:
        self.urls = {"http": url, "management": management}
        self.process = process

    def probe(self, name: str) -> int:
        """The status of what the kubelet asks."""
        asked = container_of(DEPLOYMENT)[name]["httpGet"]
        return httpx.get(self.urls[asked["port"]] + asked["path"], timeout=SECONDS).status_code

    def scrape(self) -> Scrape:
        """What Prometheus reads where it asks."""
        (endpoint,) = MONITOR["spec"]["podMetricsEndpoints"]
        response = httpx.get(self.urls[endpoint["port"]] + endpoint["path"], timeout=SECONDS)
        assert response.status_code == 200
        return samples(response.text)

    def answered(self) -> float:
        """Requests that were answered, but for probes and scrapes."""
        total = "convpool_requests_total"
        scrape = self.scrape()
        return scrape.sum(total) - scrape.sum(total, operation="health") - scrape.sum(total, operation="metrics")


@contextlib.contextmanager
def running_pod(**more: str) -> Iterator[Running]:
    management = str(free_port())
    more = {**settings_of(DEPLOYMENT), "CONVPOOL_MANAGEMENT_PORT": management, **more}
    with running_server(port=None, verify=None, **more) as (url, process):
        yield Running(url, f"http://127.0.0.1:{management}", process)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # which waits for nothing


@pytest.fixture
def running() -> Iterator[Running]:
    with running_pod() as pod:
        yield pod


def test_it_runs_with_these_settings(running: Running) -> None:
    assert [running.probe(name) for name in PROBES] == [200, 200, 200]
    assert_answer(httpx.post(f"{running.urls['http']}/conv/forward", json=orjson.loads(BODY)))
    assert httpx.get(f"{running.urls['http']}/metrics").status_code == 404  # nor through the Service
    limit = number_of_bytes(container_of(DEPLOYMENT)["resources"]["limits"]["memory"])
    scrape = running.scrape()
    assert scrape.sum("process_resident_memory_bytes") + scrape.sum("convpool_memory_limit_bytes") < limit


def test_probes_and_prometheus_need_no_api_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a-key-of-at-least-sixteen-characters\n")
    with running_pod(CONVPOOL_API_KEYS_FILE=str(tmp_path / "keys")) as pod:
        refused = httpx.post(f"{pod.urls['http']}/conv/forward", json=orjson.loads(BODY))
        assert refused.status_code == 401
        assert [pod.probe(name) for name in PROBES] == [200, 200, 200]
        wait_until(lambda: pod.answered() == 1)


def test_the_autoscaler_counts_requests_but_no_scrapes_and_no_probes(running: Running) -> None:
    """The scrape itself is a request in progress, and would count as load of each replica."""
    metric = metrics_in(SCALED["spec"]["triggers"][0]["metadata"]["query"]).pop()
    assert running.probe("readinessProbe") == 200
    assert running.scrape().sum(metric) == 0
    with contextlib.ExitStack() as stack:
        for number in range(1, 4):
            upload = stack.enter_context(connected(running.urls["http"]))
            upload.sendall(head(JSON, "Content-Length: 100000", "Expect: 100-continue"))
            await_the_interim_response(upload)
            wait_until(functools.partial(lambda expected: running.scrape().sum(metric) == expected, number))
    wait_until(lambda: running.scrape().sum(metric) == 0)


def test_no_request_is_lost_when_a_pod_is_deleted_under_load(running: Running) -> None:
    """SIGTERM comes first, and clients come until they have noticed: here, until the probe says that it is not ready,
    and for some more requests."""
    port = httpx.URL(running.urls["http"]).port
    assert port is not None
    with Load(port, small_calls(), clients=4, pause=0.0, patience=SECONDS) as load:
        load.start()
        wait_until(lambda: running.answered() >= 20)
        running.process.terminate()
        wait_until(lambda: running.probe("readinessProbe") == 503)
        assert running.probe("livenessProbe") == 200  # or the kubelet would restart it
        served = running.answered()
        wait_until(lambda: running.answered() >= served + 20)
        figures = load.stop()
    assert not figures.failures
    assert not figures.wrong
    assert set(figures.statuses) == {200}
    assert running.process.wait(SECONDS) == 0
