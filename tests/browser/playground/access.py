"""What axe finds: serious and critical faults of accessibility."""

from __future__ import annotations

from playwright.sync_api import Page


def serious(page: Page) -> list[str]:
    """Each serious or critical violation with its element; its script is not the page's, so its policy has no say."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']} ({violation['impact']}): {node['target']}: {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]
