"""The configurations of reverse proxies in deploy/ are valid, and requests go through them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import trustme
import yaml

from service.settings import Settings
from tests.clients import free_port, running_server
from tests.service.streaming.connections import LIMITS, MANY, MIB, batch, exchanged, little_memory, pooled, sent_first
from tests.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
PREFIX = "/convpool"
CLIENT = "127.0.0.2"
BODY = {"mode": "max", "kernel_size": 2, "input": [[[[1], [2]], [[3], [4]]]]}
SECONDS = 30


class Proxy(NamedTuple):
    """A program that is installed, its command with the configuration of a server, and what checks that alone."""

    command: list[str]
    check: list[str]
    environment: dict[str, str]


class Service(NamedTuple):
    """The address of a service, and its process."""

    url: str
    pid: int


class Proxied(NamedTuple):
    """A client of a proxy that speaks HTTPS, what trusts the proxy, and the proxy's processes."""

    client: httpx.Client
    trust: ssl.SSLContext
    pids: list[int]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service") / "log"


@pytest.fixture(scope="module")
def service(log: Path) -> Iterator[Service]:
    with running_server("--root-path", PREFIX, CONVPOOL_TEST_LOG=str(log), **LIMITS) as (base_url, process):
        yield Service(base_url, process.pid)


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return found


@pytest.mark.parametrize("listen", ["http", "https"])
@pytest.mark.parametrize("servers", ["one", "replicas"])
def test_haproxy_s_files_go_together(tmp_path: Path, authority: trustme.CA, listen: str, servers: str) -> None:
    certificate = tmp_path / "all.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    files = [part for name in ("common", listen, servers) for part in ("-f", str(DEPLOY / "haproxy" / f"{name}.cfg"))]
    checked = subprocess.run(
        [program("haproxy"), "-c", "-dW", *files],  # a warning is an error
        env={**os.environ, "CERTIFICATE": str(certificate)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_compose_starts_haproxy_as_it_starts_replicas() -> None:
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    balancer, replica = services["haproxy"], services["replica"]
    named = [Path(part).name for part in balancer["command"] if part.endswith(".cfg")]
    assert all((DEPLOY / "haproxy" / name).exists() for name in named)
    assert named == ["common.cfg", "http.cfg", "replicas.cfg"]
    assert balancer["environment"]["MAX_REQUESTS"] == replica["environment"]["CONVPOOL_MAX_REQUESTS"]
    settings = Settings()
    grace, delay = float(replica["stop_grace_period"][:-1]), float(replica["environment"]["CONVPOOL_SHUTDOWN_DELAY"])
    assert grace > delay + settings.graceful_shutdown
    common = (DEPLOY / "haproxy" / "common.cfg").read_text()
    assert f"presetenv MAX_REQUESTS {settings.max_requests} " in common
    assert f"presetenv QUEUE_TIMEOUT {settings.queue_timeout:.0f}s " in common
    for hardened in (balancer, replica):
        assert hardened["read_only"]
        assert hardened["cap_drop"] == ["ALL"]
        assert {"mem_limit", "pids_limit", "security_opt"} <= set(hardened)


def haproxy(folder: Path, listen: str, server: str, certificate: trustme.LeafCert) -> Proxy:
    executable = program("haproxy")
    files = [part for name in ("common", "https", "one") for part in ("-f", str(DEPLOY / "haproxy" / f"{name}.cfg"))]
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "all.pem"))
    environment = {"LISTEN": listen, "CONVPOOL_SERVER": server, "CERTIFICATE": str(folder / "all.pem")}
    return Proxy([executable, "-db", *files], [executable, "-c", *files], environment)


def nginx(folder: Path, listen: str, server: str, certificate: trustme.LeafCert) -> Proxy:
    executable = program("nginx")
    certificate.cert_chain_pems[0].write_to_path(str(folder / "convpool.crt"))
    certificate.private_key_pem.write_to_path(str(folder / "convpool.key"))
    text = (DEPLOY / "nginx" / "convpool.conf").read_text()
    for written, here in (
        ("listen 443 ssl;", f"listen {listen} ssl;"),
        ("server 127.0.0.1:8000;", f"server {server};"),
        ("/etc/nginx/convpool.", f"{folder}/convpool."),
    ):
        assert written in text
        text = text.replace(written, here)
    (folder / "convpool.conf").write_text(text)
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; daemon off; error_log stderr; events {{}} http {{ access_log off; "
        f"client_body_temp_path {folder}; proxy_temp_path {folder}; include {folder}/convpool.conf; }}"
    )
    command = [executable, "-e", "stderr", "-c", str(folder / "nginx.conf")]
    return Proxy(command, [*command, "-t"], {})


@pytest.fixture(scope="module", params=[haproxy, nginx], ids=["haproxy", "nginx"])
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA, service: Service
) -> Iterator[Proxied]:
    make: Callable[..., Proxy] = request.param
    port = free_port()
    folder = tmp_path_factory.mktemp("proxy")
    proxy = make(folder, f"127.0.0.1:{port}", service.url.removeprefix("http://"), authority.issue_cert("127.0.0.1"))
    environment = {**os.environ, **proxy.environment}
    checked = subprocess.run(proxy.check, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(proxy.command, env=environment)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    transport = httpx.HTTPTransport(verify=context, local_address=CLIENT)
    try:
        with httpx.Client(transport=transport, base_url=f"https://127.0.0.1:{port}{PREFIX}", timeout=SECONDS) as client:
            wait_for(port, process)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            workers = map(int, children.read_text().split() if children.exists() else [])
            yield Proxied(client, context, [process.pid, *workers])
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def client(proxied: Proxied) -> httpx.Client:
    return proxied.client


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RuntimeError("the proxy does not listen")


def test_requests_and_errors_go_through(client: httpx.Client, log: Path) -> None:
    response = client.post("/pool/forward", json=BODY, headers={"X-Forwarded-For": "192.0.2.1"})
    assert (response.status_code, response.json()) == (200, {"output": [[[[4.0]]]]})
    assert '"mode":"max"' in response.headers["convpool-parameters"]
    refused = client.post("/pool/forward", json={**BODY, "stride": 0})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert client.get("/v2/health/ready").json() == {"ready": True, "live": True}
    assert client.get("/v2/models/nothing").status_code == 404
    # neither the proxy's address nor the one that it says; a request is logged once its response is sent
    wait_until(lambda: f'{CLIENT}:0 "POST {PREFIX}/pool/forward" 200 ' in log.read_text())


def test_only_a_trusted_proxy_says_who_the_client_is(service: Service, log: Path) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=CLIENT), base_url=service.url) as client:
        assert client.get("/ops?by=myself", headers={"X-Forwarded-For": "192.0.2.2"}).status_code == 200
    with httpx.Client(base_url=service.url) as proxy:  # from 127.0.0.1
        assert proxy.get("/ops?for=another", headers={"X-Forwarded-For": "192.0.2.3"}).status_code == 200
    wait_until(lambda: f'192.0.2.3:0 "GET {PREFIX}/ops' in log.read_text())  # as above
    text = log.read_text()
    assert f"{CLIENT}:" in text
    assert "192.0.2.2" not in text


def test_the_page_and_what_it_loads_are_below_the_prefix(client: httpx.Client) -> None:
    assert (page := client.get("/")).status_code == 200
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    for start in ("/docs/", "/docs"):
        response = client.get(start, follow_redirects=True)
        assert str(response.url) == f"{client.base_url}docs"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    for path in ("playground/service.js", "static-offline-docs/swagger-ui-bundle.js"):
        assert client.get(path).status_code == 200
    for path in ("openapi.json", "examples/conv_forward/request.json"):
        assert client.get(path).status_code == 200
    assert client.get("/ops/").headers["location"] == f"{client.base_url}ops"


def test_what_is_not_below_the_prefix_is_not_the_service_s(client: httpx.Client) -> None:
    outside = client.base_url.join("/pool/forward")
    assert client.post(outside, json=BODY).status_code == 404
    assert client.get(client.base_url.join(PREFIX)).headers["location"].endswith(f"{PREFIX}/")


# ------------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize(("images", "kernel_size"), [(16, 1), (MANY, 4)])
def test_a_stream_s_result_that_is_kept_comes_through(
    proxied: Proxied, service: Service, images: int, kernel_size: int
) -> None:
    """Up to CONVPOOL_MAX_RESULT_BYTES, for a client that reads nothing before it has sent everything."""
    with little_memory(service.pid), little_memory(*proxied.pids, limit=8 * MIB):
        response = sent_first(proxied.client, images, kernel_size)
        assert (response.status_code, response.content) == (200, pooled(images, kernel_size))


def test_a_result_that_cannot_be_kept_is_refused_before_an_image_is_sent(proxied: Proxied) -> None:
    head, body = exchanged(str(proxied.client.base_url), 17, "", sent=0, trust=proxied.trust)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"duplex=true" in body
    assert sent_first(proxied.client, MANY).status_code == 413


@pytest.mark.parametrize("proxied", [haproxy], indirect=True)
def test_haproxy_passes_both_directions_on_at_once(proxied: Proxied, service: Service) -> None:
    base_url = str(proxied.client.base_url)
    assert exchanged(base_url, 4, trust=proxied.trust)[1] == pooled(4)
    with little_memory(service.pid), little_memory(*proxied.pids, limit=8 * MIB):
        assert exchanged(base_url, MANY, trust=proxied.trust)[1] == pooled(MANY)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("proxied", [haproxy], indirect=True)
def test_haproxy_does_so_over_http_2(proxied: Proxied, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    with (tmp_path / "batch.npy").open("wb") as file:
        file.writelines(batch(MANY))
    url = f"{proxied.client.base_url}pool/forward/stream?mode=max&kernel_size=1&duplex=true"
    command = ["curl", "-sS", "--http2", "--cacert", "authority.pem", "-X", "POST", "-T", "batch.npy", url]
    options = ["-H", "Content-Type: application/x-npy", "-o", "result.npy", "-w", "%{http_version} %{http_code}"]
    ended = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("2 200", "")
    assert (tmp_path / "result.npy").read_bytes() == pooled(MANY)
