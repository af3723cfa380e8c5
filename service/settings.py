"""The settings of the service: environment variables named CONVPOOL_ and the field's name in capitals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from cnn_core.runtime.cpus import usable_cpus

__all__ = ["MEBIBYTE", "Settings"]

MEBIBYTE = 2**20


class Settings(BaseSettings):
    """Settings with their defaults; the README's table is checked against this class."""

    model_config = SettingsConfigDict(env_prefix="CONVPOOL_", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    workers: PositiveInt = Field(1, description="Processes that serve requests.")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path that a proxy in front takes off, such as /convpool.",
    )
    log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = Field(
        "info", description="Least severe messages that are logged."
    )
    compute_threads: PositiveInt = Field(
        default_factory=usable_cpus,
        description="Threads that each process computes with: requests side by side, or one on all of them.",
        le=1024,
    )
    max_requests: PositiveInt = Field(
        64, description="Requests that each process has under way at one time; further ones get a 503."
    )
    max_memory_bytes: PositiveInt = Field(
        1024 * MEBIBYTE,
        description="Largest sum of the bodies, workspaces and results of the requests that a process has under way; "
        "further ones get a 503. A request that is alone is always taken.",
    )
    max_body_bytes: PositiveInt = Field(64 * MEBIBYTE, description="Largest request body.")
    max_json_bytes: PositiveInt = Field(
        32 * MEBIBYTE, description="Largest JSON body; its numbers take several times their text in memory."
    )
    max_decompressed_bytes: PositiveInt = Field(
        128 * MEBIBYTE, description="Largest sum of the sizes that the members of an npz inflate to."
    )
    max_result_bytes: PositiveInt = Field(
        128 * MEBIBYTE, description="Largest sum of the sizes of an answer's tensors, and of their text in JSON."
    )
    max_workspace_bytes: PositiveInt = Field(
        512 * MEBIBYTE, description="Largest memory that a computation may need beside operands and results."
    )
    max_work: PositiveInt = Field(
        100_000_000_000,
        description="Most work of one request, in multiply-accumulates of a convolution: what takes longer counts as "
        "several. Some ten seconds on one processor, up to a minute for the slowest layers.",
    )
    body_timeout: PositiveFloat = Field(
        60.0, description="Seconds within which a request's body must arrive, beside one for every 16 KiB of it."
    )
    send_timeout: PositiveFloat = Field(
        60.0, description="Seconds for which a client may leave its answer unread; then it is broken off."
    )
    keep_alive: PositiveInt = Field(75, description="Seconds for which an idle connection is kept open.")
    graceful_shutdown: PositiveInt = Field(30, description="Seconds that running requests get to finish after SIGTERM.")
