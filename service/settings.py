"""The settings of the service, read from environment variables: CONVPOOL_ and the field's name in upper case."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cnn_core.runtime.cpus import usable_cpus

__all__ = ["MEBIBYTE", "PREFIX", "Settings", "service_links", "unknown_variables"]

MEBIBYTE = 2**20

PREFIX = "CONVPOOL_"

SERVICE_LINK = "tcp://"
"""What CONVPOOL_PORT begins with where Kubernetes has set it, for a Service called convpool."""

OTHER_SERVICE_LINKS = re.compile(
    rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
"""The other variables that Kubernetes sets for it."""

ORIGIN = re.compile(r"\*|(?!http://[^/]*:80$)(?!https://[^/]*:443$)[a-z][a-z0-9+.-]*://[^\s/?#@*,]+", re.IGNORECASE)
"""What a browser sends as the origin of a page (RFC 6454, 6.2)."""

OF_THE_CLIENT = ("URL", "API_KEY")
"""Variables of ``convpool.client``, which may be set where a server starts."""

MIN_SIMILARITY = 0.6
"""Similarity of names without the prefix, as difflib measures it, from which a setting is suggested."""


class Settings(BaseSettings):
    """Settings with their defaults; the README's table is checked against this class."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    uds: str = Field("", description="Path of a Unix domain socket to listen on, instead of host and port.")
    management_port: int = Field(
        0, ge=0, le=65535, description="Port that serves /metrics instead of the main one, and /health too; 0 for none."
    )
    management_host: str = Field("", description="Address of the management port; the same as host if empty.")
    tls_certificate: str = Field(
        "", description="PEM file of the certificate, with its chain; the ports then speak HTTPS (TLS 1.2 or newer)."
    )
    tls_key: str = Field("", description="PEM file of the certificate's private key, if that file does not have it.")
    forwarded_allow_ips: str = Field(
        "127.0.0.1,::1",
        description="Addresses or networks, separated by commas, of proxies whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed; * for all.",
    )
    workers: PositiveInt = Field(1, description="Number of worker processes.")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path prefix under which a reverse proxy has the service, such as /convpool.",
    )
    api_keys_file: str = Field(
        "",
        description="File of API keys, one per line; if set, requests need a header `Authorization: Bearer KEY`. The "
        "file is read again when it changes.",
    )
    cors_origins: str = Field(
        "",
        description="Origins of web pages that may call the service, such as https://example.org, separated by commas; "
        "`*` for all.",
    )
    log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = Field(
        "info", description="Lowest severity of the messages that are logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Format of the log: lines of text, or a JSON object on each line."
    )
    compute_threads: PositiveInt = Field(
        default_factory=usable_cpus,
        description="Compute threads per process. Concurrent requests share them; a request running alone uses all.",
        le=1024,
    )
    max_requests: PositiveInt = Field(
        64,
        description="Maximum number of requests in progress, of all workers together; a quarter of them is left to "
        "small requests. Any more wait, and get a 503 after the queue timeout.",
    )
    max_memory_bytes: PositiveInt = Field(
        1024 * MEBIBYTE,
        description="Maximum total size of the bodies, workspaces and results of all requests in progress, of all "
        "workers together; an eighth of it is left to small requests. A request that would exceed it waits, and gets a "
        "503 after the queue timeout; one that could never have so much gets a 413.",
    )
    max_share_per_address: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Maximum share of the requests and of the memory that one client address may have; any more get a "
        "429. Behind a proxy, all clients may have the same address.",
    )
    max_body_bytes: PositiveInt = Field(
        64 * MEBIBYTE,
        description="Maximum size of a request body, decompressed too; of a streamed batch, of one image.",
    )
    max_json_bytes: PositiveInt = Field(
        32 * MEBIBYTE,
        description="Maximum size of a JSON body; parsed numbers take several times the memory of their text.",
    )
    max_decompressed_bytes: PositiveInt = Field(
        128 * MEBIBYTE, description="Maximum total size of the decompressed members of an npz."
    )
    max_result_bytes: PositiveInt = Field(
        128 * MEBIBYTE,
        description="Maximum total size of a response's tensors, and of their text in JSON; for a streamed batch, of "
        "the result that is kept for a client that does not read while it sends.",
    )
    max_workspace_bytes: PositiveInt = Field(
        512 * MEBIBYTE,
        description="Maximum memory that a computation may need in addition to its operands and results.",
    )
    max_work: PositiveInt = Field(
        100_000_000_000,
        description="Maximum work of a request, in multiply-accumulates of a convolution; slower operations count as "
        "several. The default takes about ten seconds on one core, up to a minute for the slowest layers.",
    )
    body_timeout: PositiveFloat = Field(
        20.0, description="Seconds that a request body may fall behind the minimum transfer rate; then it gets a 408."
    )
    min_transfer_rate: PositiveInt = Field(
        16384, description="Bytes per second at which a client must send a body and take a response."
    )
    queue_timeout: PositiveFloat = Field(
        10.0, description="Seconds that a request may wait for a place, for memory or for a thread; then it gets a 503."
    )
    compute_timeout: PositiveFloat = Field(
        60.0, description="Seconds that a computation may take; then it is stopped, and the request gets a 503."
    )
    header_timeout: PositiveFloat = Field(
        10.0,
        description="Time limit in seconds for a request's head, from its first byte or the connection's start.",
    )
    send_timeout: PositiveFloat = Field(
        20.0,
        description="Seconds that a client may fall behind the minimum transfer rate when it takes a response; then "
        "its connection is broken off.",
    )
    max_connections: PositiveInt = Field(
        1024,
        description="Maximum number of connections per process, fewer if it may not open as many files. For one more, "
        "the one that has waited longest without a request is closed; if all have one, the new one gets a 503.",
    )
    keep_alive: PositiveInt = Field(75, description="Seconds after which an idle connection is closed.")
    graceful_shutdown: PositiveInt = Field(
        30, description="Seconds that requests in progress get to finish after SIGTERM."
    )
    shutdown_delay: NonNegativeFloat = Field(
        0.0,
        description="Seconds after SIGTERM in which connections are still accepted while /health/ready says 503, so "
        "that load balancers notice.",
    )

    @property
    def cors_origin_list(self) -> list[str]:
        """The origins of ``cors_origins``, as browsers write them."""
        return [origin.strip().lower() for origin in self.cors_origins.split(",")] if self.cors_origins else []

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        if value and not all(ORIGIN.fullmatch(origin.strip()) for origin in value.split(",")):
            raise ValueError(
                "an origin is a scheme, a host and, unless it is the scheme's own, a port, without a path: "
                "https://example.org, http://localhost:3000; several are separated by commas, and * is all"
            )
        return value

    @field_validator("port", mode="before")
    @classmethod
    def _leave_out_a_service_link(cls, value: Any) -> Any:
        is_link = isinstance(value, str) and value.startswith(SERVICE_LINK)
        return cls.model_fields["port"].default if is_link else value


def service_links(variables: Mapping[str, str]) -> list[str]:
    """Return the environment variables that Kubernetes sets for a Service called convpool: they are no settings.

    Parameters
    ----------
    variables : mapping of str to str
        All environment variables.
    """
    return [
        name
        for name, value in variables.items()
        if OTHER_SERVICE_LINKS.fullmatch(name) or (name == f"{PREFIX}PORT" and value.startswith(SERVICE_LINK))
    ]


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Return the environment variables that look like settings but are none, each with the setting it may mean.

    Parameters
    ----------
    names : iterable of str
        Names of all environment variables; upper and lower case are the same.
    """
    known = [name.upper() for name in Settings.model_fields]
    ours = {name: name[len(PREFIX) :].upper() for name in names if name.upper().startswith(PREFIX)}
    unknown = {name: rest for name, rest in ours.items() if rest not in (*known, *OF_THE_CLIENT)}
    meant = {name: difflib.get_close_matches(rest, known, 1, MIN_SIMILARITY) for name, rest in unknown.items()}
    return [f"{name} (did you mean {PREFIX}{close[0]}?)" if close else name for name, close in meant.items()]
