"""The command line: ``convpool serve``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliSettingsSource
from uvicorn.config import STARTUP_FAILURE

from cnn_core import __version__

from .http.api_keys import ApiKeys, ApiKeysError
from .http.security_headers import FOR_ALL_RESPONSES
from .observability.logs import log_config
from .observability.shared_directory import shared_metrics
from .settings import PREFIX, Settings, unknown_variables
from .unix_socket import unix_socket
from .workers import WorkerSupervisor

__all__ = ["main"]

DEFAULTS_IN_WORDS = {
    "default: )": "default: none)",
    "default factory: usable_cpus)": "default: the number of available CPUs)",
}
"""What pydantic-settings writes about a default, and what is shown instead."""

logger = logging.getLogger("convpool")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    flags = vars(parser.parse_args(arguments))  # only those that were given
    flags.pop("command")
    # The workers are processes of their own and read the environment: the flags must be set there too.
    os.environ.update({_variable(name): value for name, value in flags.items()})
    try:
        settings = Settings()
    except ValidationError as error:
        faults = [(str(fault["loc"][0]), fault["msg"]) for fault in error.errors()]
        parser.error("; ".join(f"{_flag(name) if name in flags else _variable(name)}: {text}" for name, text in faults))
    serve(settings)
    return 0


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests that run then are finished first."""
    config = uvicorn.Config(
        f"{__package__}.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=log_config(settings.log_level, settings.log_format),
        access_log=False,  # the application logs its requests itself
        http=f"{__package__}.http.protocol:Protocol",  # of httptools
        ws="none",
        root_path=settings.root_path,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.graceful_shutdown,
        server_header=False,
        headers=FOR_ALL_RESPONSES,
    )
    unknown = unknown_variables(os.environ)
    if unknown:
        logger.warning("Ignored environment variables that are no settings: %s", ", ".join(unknown))
    if settings.api_keys_file:
        try:
            logger.info("API keys required: %d in %s", len(ApiKeys(settings.api_keys_file)), settings.api_keys_file)
        except ApiKeysError as error:
            logger.error("%s", error)
            sys.exit(STARTUP_FAILURE)
    with contextlib.ExitStack() as resources:
        resources.enter_context(shared_metrics(settings.workers))
        signal.signal(signal.SIGTERM, functools.partial(_end, resources))
        sockets = []
        if settings.uds:
            try:
                sockets = [resources.enter_context(unix_socket(settings.uds))]
            except OSError as error:
                logger.error("Cannot listen on the Unix domain socket %s: %s", settings.uds, error)
                sys.exit(STARTUP_FAILURE)
            logger.info("Listening on the Unix domain socket %s", settings.uds)
        _run(config, sockets)


def _run(config: uvicorn.Config, sockets: list[socket.socket]) -> None:
    if config.workers > 1:
        WorkerSupervisor(config, sockets or [config.bind_socket()]).run()
        return
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again once it has shut down
        server.run(sockets or None)
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _end(resources: contextlib.ExitStack, *_: object) -> None:
    # uvicorn raises the signal again once it has shut down in good order: that is success, not death by a signal. What
    # still computes then was given its time, and is not waited for.
    resources.close()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convpool", description="Convolution and pooling layers over HTTP.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"convpool {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "serve",
        help="serve over HTTP",
        description="Serve over HTTP. Each setting is a flag and an environment variable; the flag takes precedence.",
        usage="convpool serve [--SETTING VALUE ...]",
        allow_abbrev=False,
    )
    CliSettingsSource[Settings](
        Settings,
        root_parser=command,
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_show_env_vars=True,
        add_argument_method=_add_argument,
    )
    return parser


def _add_argument(parser: argparse.ArgumentParser, *names: str, **options: Any) -> argparse.Action:
    """Add a setting's flag, with its default in plain words."""
    for written, meant in DEFAULTS_IN_WORDS.items():
        options["help"] = options["help"].replace(written, meant)
    return parser.add_argument(*names, **options)
