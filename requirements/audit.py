"""Looks the locked packages up in databases of known vulnerabilities, and says plainly if none could be asked.

pip-audit exits with 0 where it could look nothing up: an index that has no advisories makes it skip every package. Here
an audit counts only if every package was looked up, and if a release known to be vulnerable is reported as such.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
KNOWN_TO_BE_VULNERABLE = "jinja2==2.10"  # PYSEC-2019-217
CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 2


def audited(service: str, *options: str) -> list[dict[str, Any]] | None:
    """Return what a database says of each package, or None if it did not say something of all."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--disable-pip"]
        command += ["--progress-spinner", "off", "--desc", "off", "--format", "json", "--output", str(report), *options]
        subprocess.run(command, capture_output=True, check=False)
        if not report.exists():
            return None
        packages: list[dict[str, Any]] = json.loads(report.read_text())["dependencies"]
    return packages if packages and all("vulns" in package for package in packages) else None


def knows_vulnerabilities(service: str) -> bool:
    """Return whether a database can be asked, and says of a vulnerable release that it is."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{KNOWN_TO_BE_VULNERABLE}\n")
        packages = audited(service, "--no-deps", "--requirement", str(requirements))
    return packages is not None and any(package["vulns"] for package in packages)


def main() -> int:
    """Print the result and return the exit status: 0 clean, 1 vulnerable, 2 not audited."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optional", action="store_true", help="exit with 0 if no database could be asked")
    parser.add_argument("locks", nargs="+", help="lock files, with hashes")
    arguments = parser.parse_args()
    options = [part for lock in arguments.locks for part in ("--requirement", lock)]
    packages = None
    for service in SERVICES:
        packages = audited(service, "--require-hashes", *options) if knows_vulnerabilities(service) else None
        if packages is not None:
            break
    if packages is None:
        print(f"NOT AUDITED: none of the databases {', '.join(SERVICES)} could be asked about all packages.")
        print("Nothing is known of vulnerabilities in them. Run `make audit` where the databases can be reached.")
        return CLEAN if arguments.optional else NOT_AUDITED
    vulnerable = [package for package in packages if package["vulns"]]
    print(
        f"Audited {len(packages)} packages with the database {service}: {len(vulnerable)} have known vulnerabilities."
    )
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no release yet"
            print(f"  {package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
    return VULNERABLE if vulnerable else CLEAN


if __name__ == "__main__":
    sys.exit(main())
