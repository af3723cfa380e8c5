"""The examples in the section of docs/scaling.md on arrays."""

from __future__ import annotations

from tests.pages import FENCED, PROJECT

__all__ = ["example"]


def example(heading: str) -> tuple[str, str]:
    """Return the code and the output that are below a heading."""
    text = (PROJECT / "docs" / "scaling.md").read_text()
    section = text.split(f"\n### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    by_language = dict(FENCED.findall(section))
    return by_language["python"], by_language["text"]
