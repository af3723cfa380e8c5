"""Let schemathesis test a server against its own /openapi.json: ``python -m reliability.fuzz_schema``.

schemathesis.toml says which of its checks are off, and why; schemathesis_hooks.py, what it does not send.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .machine import machine
from .server import Server
from .wire import HOST

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
HOOKS = f"{__package__}.schemathesis_hooks"
PROGRAM = Path(sys.executable).with_name("schemathesis")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run schemathesis; return 1 if a check of it fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0, help="(default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all figures")
    options = parser.parse_args(arguments)
    before = machine()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "server.log") as server:
        command = [str(PROGRAM), "--config-file", str(CONFIGURATION), "--no-color", "run"]
        command += [f"http://{HOST}:{server.port}/openapi.json", "--max-time", str(max(1, round(options.seconds)))]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS}
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        is_running = server.is_running()
    cases = re.search(r"([\d,]+) generated", ended.stdout)
    figures = {"cases": int(cases[1].replace(",", "")) if cases else 0, "seconds": options.seconds}
    criteria = {"every check holds": ended.returncode == 0, "still runs": is_running, "cases": bool(figures["cases"])}
    if ended.returncode:
        print(ended.stdout, ended.stderr, sep="\n")
    print(f"schemathesis: {figures['cases']:g} cases, exit status {ended.returncode}")
    if options.json:
        result = {"program": "fuzz_schema", **before, "figures": figures, "criteria": criteria}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(not all(criteria.values()))


if __name__ == "__main__":
    sys.exit(main())
