"""Builds the wheel: ``cnn_core``, ``service`` and the pages of ``docs`` become parts of the package ``convpool``.

In a checkout the two are packages of their own, and what is between them is imported by name: ``from cnn_core import
Conv``. An installed package with such a name would break, and be broken by, every other ``service`` on the path.
Within each package imports are relative and stay as they are.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("convpool", "cnn_core", "service")
PICTURE = re.compile(r"!\[[^\]]*\]\(([\w.-]+)\)")
IMPORT = re.compile(r"^( *)from (cnn_core|service)\b", re.MULTILINE)


class WheelLayout(BuildHookInterface):  # type: ignore[type-arg]
    """Copies the packages into one, with imports that say where the others then are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Prepare the files that go into the wheel; an editable install takes the checkout as it is."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        packed = Path(self._folder.name)
        for name in PACKAGES:
            target = packed if name == "convpool" else packed / name
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(Path(self.root) / name, target, dirs_exist_ok=True, ignore=ignored)
        self._copy_pages(packed / "docs")
        for path in packed.rglob("*.py"):
            path.write_text(IMPORT.sub(r"\1from convpool.\2", path.read_text("utf-8")), "utf-8")
        build_data["force_include"][str(packed)] = "convpool"

    def _copy_pages(self, target: Path) -> None:
        """Copy the pages that the service shows, and the pictures in them."""
        target.mkdir()
        for page in (Path(self.root) / "docs").glob("*.md"):
            shutil.copy(page, target)
            for picture in PICTURE.findall(page.read_text("utf-8")):
                shutil.copy(page.parent / picture, target)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the copies."""
        if version != "editable":
            self._folder.cleanup()
