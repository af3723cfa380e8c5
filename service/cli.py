"""The command line: ``convpool serve``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource
from uvicorn.config import STARTUP_FAILURE

from cnn_core import __version__

from .http.api_keys import ApiKeys, ApiKeysError
from .listeners import CannotStart, listeners
from .observability.shared_directory import shared_metrics
from .server import Server, configure_logging, tls_context
from .settings import PREFIX, Settings, service_links, unknown_variables
from .workers import Supervisor

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
    return serve(settings)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; requests that run then are finished first."""
    configure_logging(settings)
    links = service_links(os.environ)
    if links:
        logger.warning(
            "Ignored environment variables that Kubernetes sets for a Service called convpool: %s. They are not set if "
            "the pod has enableServiceLinks: false, or the Service another name",
            ", ".join(links),
        )
    unknown = unknown_variables(name for name in os.environ if name not in links)
    if unknown:
        logger.warning("Ignored environment variables that are no settings: %s", ", ".join(unknown))
    return _run(settings)


def _run(settings: Settings) -> NoReturn:
    with contextlib.ExitStack() as resources:
        signal.signal(signal.SIGTERM, lambda *_: _end(resources, 0))  # until the server takes it
        status = 0
        try:
            if settings.api_keys_file:
                logger.info("API keys required: %d in %s", len(ApiKeys(settings.api_keys_file)), settings.api_keys_file)
            resources.enter_context(shared_metrics(settings.workers))
            opened = resources.enter_context(listeners(settings))
            if settings.workers > 1:
                tls_context(settings)  # each worker reads it, but a fault in it should be said once
                status = Supervisor(settings, opened).run()
            else:
                Server(settings, opened).run()
        except (CannotStart, ApiKeysError) as error:
            logger.error("%s", error)
            status = STARTUP_FAILURE
        except KeyboardInterrupt:  # while it starts
            pass
        _end(resources, status)


def _end(resources: contextlib.ExitStack, status: int) -> NoReturn:
    """End the process: what still computes was given its time, and is not waited for."""
    resources.close()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


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
