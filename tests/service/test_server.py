"""One serving process: its configuration, TLS, the management port, and whom it believes about a client's address."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.http.connections import MAX_MANAGEMENT_CONNECTIONS
from service.listeners import CannotStart
from service.server import configuration, tls_context
from service.settings import Settings
from tests.clients import free_port, running_server
from tests.service.streaming.connections import LIMITS, MANY, exchanged, little_memory, pooled, sent_first
from tests.service.test_serving import JSON, assert_answer, assert_problem, await_the_interim_response, head, received

SECONDS = 60.0
REQUEST = {"input": [[[[1], [2]], [[3], [4]]]], "weight": [[[[10]]]], "bias": [0.5]}


def test_configuration() -> None:
    settings = Settings(keep_alive=7, root_path="/below", forwarded_allow_ips="10.0.0.0/8")
    config = configuration(settings)
    assert config.http == "service.http.protocol:Protocol"  # see docs/decisions/0004-httptools.md
    assert (config.timeout_keep_alive, config.root_path, config.forwarded_allow_ips) == (7, "/below", "10.0.0.0/8")
    assert not config.access_log


# ----------------------------------------------------------------------------------------------------------------- TLS


class Secured(NamedTuple):
    """A server that speaks TLS: the addresses of its main port and of its management port, and its process."""

    url: str
    management: str
    pid: int


class Certificate:
    """An authority of our own, and what it has issued for localhost."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.chain, self.key, self.both = folder / "chain.pem", folder / "key.pem", folder / "both.pem"
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)
        issued.private_key_and_cert_chain_pem.write_to_path(self.both)

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def secured(certificate: Certificate) -> Iterator[Secured]:
    management = free_port()
    files = ("--tls-certificate", str(certificate.chain), "--tls-key", str(certificate.key))
    arguments = (*files, "--management-port", str(management))
    with running_server(*arguments, verify=certificate.trusting(), **LIMITS) as (url, process):
        yield Secured(url, f"https://127.0.0.1:{management}", process.pid)


def secure_connection(url: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    address = httpx.URL(url)
    plain = socket.create_connection((address.host, address.port or 0), timeout=SECONDS)
    return context.wrap_socket(plain, server_hostname=address.host)


def test_requests_over_tls(secured: Secured, certificate: Certificate) -> None:
    with httpx.Client(verify=certificate.trusting(), base_url=secured.url, timeout=SECONDS) as client:
        for _ in range(2):
            assert_answer(client.post("/conv/forward", json=REQUEST))
        refused = client.post("/conv/forward", content=bytes(8 * 2**20), headers={"Content-Type": "text/plain"})
        assert_problem(refused, 415)
        large = orjson.dumps({"mode": "max", "kernel_size": 1, "input": [[[[0.5]] * 200_000]]})
        response = client.post("/pool/forward", content=large, headers={"Content-Type": "application/json"})
        assert response.json()["output"] == [[[[0.5]] * 200_000]]


def test_what_is_not_http_gets_its_problem_over_tls(secured: Secured, certificate: Certificate) -> None:
    """A connection under TLS cannot be closed for writing alone."""
    for sent in (b"nonsense\r\n\r\n", head(JSON, "Content-Length: x")):
        with secure_connection(secured.url, certificate.trusting()) as connection:
            connection.sendall(sent)
            assert_problem(received(connection), 400)


def test_other_versions_of_tls_and_plain_http_are_refused(secured: Secured, certificate: Certificate) -> None:
    old = certificate.trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        secure_connection(secured.url, old)
    with pytest.raises(httpx.TransportError):
        httpx.get(secured.url.replace("https", "http"), timeout=SECONDS)


@pytest.mark.parametrize(("images", "kernel_size"), [(16, 1), (MANY, 4)])
def test_a_stream_s_result_is_kept_over_tls(
    secured: Secured, certificate: Certificate, images: int, kernel_size: int
) -> None:
    """Up to CONVPOOL_MAX_RESULT_BYTES, for a client that reads nothing before it has sent everything."""
    with (
        httpx.Client(verify=certificate.trusting(), base_url=secured.url, timeout=SECONDS) as client,
        little_memory(secured.pid),
    ):
        response = sent_first(client, images, kernel_size)
        assert (response.status_code, response.content) == (200, pooled(images, kernel_size))


def test_a_stream_passes_over_tls_in_little_memory(secured: Secured, certificate: Certificate) -> None:
    trust = certificate.trusting()
    assert exchanged(secured.url, 4, trust=trust)[1] == pooled(4)
    with little_memory(secured.pid):
        assert exchanged(secured.url, MANY, trust=trust)[1] == pooled(MANY)


def test_a_result_that_cannot_be_kept_is_refused_over_tls_before_an_image_has_come(
    secured: Secured, certificate: Certificate
) -> None:
    head, body = exchanged(secured.url, 17, "", sent=0, trust=certificate.trusting())
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"duplex=true" in body
    with httpx.Client(verify=certificate.trusting(), base_url=secured.url, timeout=SECONDS) as client:
        assert sent_first(client, MANY).status_code == 413


def test_one_file_may_have_both(certificate: Certificate) -> None:
    context = tls_context(Settings(tls_certificate=str(certificate.both)))
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls_context(Settings()) is None


def test_a_key_of_another_certificate_or_with_a_password_is_an_error_in_words(
    certificate: Certificate, tmp_path: Path
) -> None:
    other = Certificate(tmp_path)
    protected = tmp_path / "protected.pem"
    key = serialization.load_pem_private_key(certificate.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    protected.write_bytes(key.private_bytes(*form))
    for file in (other.key, protected, certificate.chain):
        with pytest.raises(CannotStart, match=r"without a password; .*: [a-z]"):
            tls_context(Settings(tls_certificate=str(certificate.chain), tls_key=str(file)))


# ----------------------------------------------------------------------------------------------------- management port


def test_the_management_port_has_metrics_and_health(secured: Secured, certificate: Certificate) -> None:
    main, management, _ = secured
    with httpx.Client(verify=certificate.trusting(), timeout=SECONDS) as client:
        for url in (main, management):
            for path in ("/health/live", "/health/ready"):
                assert client.get(url + path).status_code == 200
        assert client.get(f"{management}/metrics").status_code == 200
        assert_problem(client.get(f"{main}/metrics"), 404)
        assert_problem(client.get(f"{management}/ops"), 404)
        assert_problem(client.post(f"{management}/conv/forward", json=REQUEST), 404)


def test_the_management_port_answers_when_all_connections_are_taken() -> None:
    """Or Kubernetes would restart a server that is merely full, and Prometheus would take it for dead."""
    management = f"http://127.0.0.1:{(port := free_port())}"
    with (
        running_server("--max-connections", "3", "--management-port", str(port)) as (url, process),
        contextlib.ExitStack() as stack,
    ):
        address = httpx.URL(url)
        uploads = [
            stack.enter_context(socket.create_connection((address.host, address.port or 0), timeout=SECONDS))
            for _ in range(3)
        ]
        for upload in uploads:
            upload.sendall(head(JSON, "Content-Length: 1000", "Expect: 100-continue"))
            await_the_interim_response(upload)
        assert httpx.get(f"{url}/health/ready", timeout=SECONDS).status_code == 503
        with contextlib.ExitStack() as waiting:  # nor do connections without a request keep others out there
            for _ in range(MAX_MANAGEMENT_CONNECTIONS + 1):
                waiting.enter_context(socket.create_connection(("127.0.0.1", port), timeout=SECONDS))
            for path in ("/health/live", "/health/ready", "/metrics"):
                assert httpx.get(management + path, timeout=SECONDS).status_code == 200
        process.send_signal(signal.SIGINT)
        for upload in uploads:
            upload.close()
        assert process.wait(SECONDS) == 0


def test_workers_share_the_management_port() -> None:
    management = free_port()
    with running_server("--workers", "2", "--management-port", str(management)) as (url, process):
        for _ in range(4):
            assert httpx.get(f"http://127.0.0.1:{management}/health/ready", timeout=SECONDS).status_code == 200
            assert httpx.get(f"{url}/health/ready", timeout=SECONDS).status_code == 200
        process.terminate()
        assert process.wait(SECONDS) == 0


# ------------------------------------------------------------------------------------------------------------- proxies


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [("127.0.0.1,::1", "198.51.100.7"), ("127.0.0.0/8", "198.51.100.7"), ("10.0.0.1", "127.0.0.1")],
)
def test_whose_word_is_taken_for_a_clients_address(trusted: str, expected: str) -> None:
    config = configuration(Settings(forwarded_allow_ips=trusted))
    config.load()
    assert isinstance(config.loaded_app, ProxyHeadersMiddleware)
    seen: list[Any] = []

    async def application(scope: Any, *_: object) -> None:
        seen.append(scope["client"][0])

    config.loaded_app.app = application
    # the client itself sent the first address, the proxy added the second
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"192.0.2.1, 198.51.100.7")]}
    call: Any = config.loaded_app(scope, None, None)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        call.send(None)
    assert seen == [expected]
