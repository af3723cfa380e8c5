"""The command line: ``convpool serve``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence

import uvicorn
from pydantic import ValidationError
from uvicorn.config import STARTUP_FAILURE

from cnn_core import __version__

from .http.access_log import log_config
from .settings import Settings
from .workers import WorkerSupervisor

__all__ = ["main"]

FLAGS = {"host": str, "port": int, "workers": int, "log_level": str}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    options.pop("command")
    # The workers are processes of their own and read the environment: the flags must be set there too.
    for name, value in options.items():
        if value is not None:
            os.environ[f"CONVPOOL_{name.upper()}"] = str(value)
    try:
        settings = Settings()
    except ValidationError as error:
        faults = (f"CONVPOOL_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
        parser.error("; ".join(faults))
    serve(settings)
    return 0


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests that run then are finished first."""
    signal.signal(signal.SIGTERM, _end)
    config = uvicorn.Config(
        f"{__package__}.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=log_config(settings.log_level),
        access_log=False,  # the application logs its requests itself
        http=f"{__package__}.http.protocol:Protocol",  # of httptools
        ws="none",
        root_path=settings.root_path,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.graceful_shutdown,
        server_header=False,
    )
    _run(config)


def _run(config: uvicorn.Config) -> None:
    if config.workers > 1:
        WorkerSupervisor(config, sockets=[config.bind_socket()]).run()
        return
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again once it has shut down
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _settings_listed() -> str:
    lines = ["Settings are environment variables, each with its default:"]
    for name, field in Settings.model_fields.items():
        default = "the number of available CPUs" if field.default_factory else field.default
        lines.append(f"  CONVPOOL_{name.upper()}={default}\n      {field.description}")
    return "\n".join(lines)


def _end(*_: object) -> None:
    # uvicorn raises the signal again once it has shut down in good order: that is success, not death by a signal. What
    # still computes then was given its time, and is not waited for.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="convpool", description="Convolution and pooling layers over HTTP.")
    parser.add_argument("--version", action="version", version=f"convpool {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "serve",
        help="serve over HTTP",
        description="Serve over HTTP.",
        epilog=_settings_listed(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, kind in FLAGS.items():
        field = Settings.model_fields[name]
        command.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar="VALUE",
            help=f"{field.description} Default: {field.default}.",
        )
    return parser
