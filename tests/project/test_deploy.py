"""What is deployed beside the service fits it: the dashboard and the alerts ask for metrics that /metrics has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.observability.exposition import OPENMETRICS
from service.observability.metrics import REGISTRY
from tests.service.metrics import Scrape, samples
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/convpool.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
OPERATING = (PROJECT / "docs/operating.md").read_text()
OF_PROMETHEUS = {"up"}
"""What Prometheus itself knows of a target."""


def panels() -> Iterator[dict[str, Any]]:
    yield from DASHBOARD["panels"]


def expressions() -> dict[str, str]:
    """Every query of the dashboard and of the alerts, by where it stands."""
    found = {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]}
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    return found | {rule["alert"]: rule["expr"] for rule in rules}


def metrics_in(expression: str) -> set[str]:
    """The metrics that a query names; labels and functions are other words."""
    without_strings = re.sub(r'"[^"]*"', "", expression)
    without_labels = re.sub(r"\{[^}]*\}|\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", without_strings)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w|\s*\()", re.sub(r"\[[^\]]*\]|\b\d\w*", "", without_labels))
    return set(words) - {"or", "and", "unless", "offset", "by"}


def test_the_metrics_of_a_query_are_found() -> None:
    query = (
        'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{job="up", b=~"c.."}[5m]))) > 1e3 or y_total offset 10m'
    )
    assert metrics_in(query) == {"x_bucket", "y_total"}


@pytest.fixture(scope="module")
def scrape(server_url: str) -> Scrape:
    """What a running server shows once it has computed, and refused, something."""
    for target, body in (("conv", {}), ("pool", {"mode": "max", "kernel_size": 1, "input": [[[1.0]]]})):
        httpx.post(f"{server_url}/{target}/forward", json=body)
    httpx.post(f"{server_url}/conv/shape", content=b" " * 2**20, headers={"Content-Type": "application/json"})
    found: list[Scrape] = []

    def is_complete() -> bool:
        text = httpx.get(f"{server_url}/metrics", headers={"Accept": "application/openmetrics-text"}).text
        found[:] = [samples(text, OPENMETRICS)]
        return "too_large" in found[0].labels("convpool_rejections_total", "reason")

    wait_until(is_complete)
    return found[0]


@pytest.mark.parametrize("place", expressions())
def test_every_metric_that_is_asked_for_exists(scrape: Scrape, place: str) -> None:
    named = metrics_in(expressions()[place])
    assert named
    assert named - OF_PROMETHEUS <= scrape.names


def test_every_metric_of_the_service_is_on_the_dashboard(scrape: Scrape) -> None:
    shown = set().union(*(metrics_in(expression) for expression in expressions().values()))
    of_a_kind = re.compile(r"_(bucket|sum|count)$")
    names = {of_a_kind.sub("", name) for name in scrape.names if name.startswith("convpool_")}
    assert names <= {of_a_kind.sub("", name) for name in shown}


def documented() -> dict[str, str]:
    """The table of metrics in docs/operating.md."""
    rows = re.findall(r"^\| `((?:convpool|process)_\w+)(?:\{[\w, ]+\})?` \| (.*?) \|$", OPERATING, re.MULTILINE)
    return dict(rows)


def test_every_metric_stands_in_the_table_as_it_describes_itself(scrape: Scrape) -> None:
    described = {}
    for family in REGISTRY.collect():
        name = family.name + "_total" if family.type == "counter" else family.name
        if not name.startswith("tested_"):
            described[name] = family.documentation
    table = documented()
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in scrape.names}
    assert set(table) == bare
    assert {name: text for name, text in table.items() if name in described} == {
        name: text for name, text in described.items() if name in table
    }


def test_every_alert_stands_in_the_table() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert re.findall(r"^\| (Convpool\w+) \|", OPERATING, re.MULTILINE) == [rule["alert"] for rule in rules]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed")
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
)
def test_prometheus_takes_its_configuration(arguments: tuple[str, ...]) -> None:
    subprocess.run(["promtool", *arguments], cwd=DEPLOY / "prometheus", check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed")
def test_prometheus_can_parse_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    queries = [
        target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        for panel in panels()
        for target in panel["targets"]
    ]
    rules = [{"record": f"tested:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], check=True, capture_output=True)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(DASHBOARD["panels"])


def test_what_the_service_is_deployed_with_is_hardened_likewise() -> None:
    own = COMPOSE["convpool"]
    for name in ("prometheus", "grafana"):
        other = COMPOSE[name]
        for rule in ("read_only", "cap_drop", "security_opt"):
            assert other[rule] == own[rule], name
        assert {"mem_limit", "pids_limit"} <= other.keys()
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", other["image"])
        assert other["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in other["ports"])


def test_everything_that_is_mounted_exists() -> None:
    for service in COMPOSE.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (PROJECT / source).is_dir(), source
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/convpool.yml").read_text())
    assert (
        f"./deploy/grafana/dashboards:{provider['providers'][0]['options']['path']}:ro" in COMPOSE["grafana"]["volumes"]
    )
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    used = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
