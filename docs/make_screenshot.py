"""Draw docs/playground.png: the page of a running service as a lecturer shows it, with one cell of the output pinned.

Usage: python docs/make_screenshot.py [URL], in the environment of `make test-browser`.
"""

import io
import shutil
import sys
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1280, "height": 800}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"]
MORE = "&padding=1&padding_mode=reflect&cell=output:4&tab=code"
"""What is added to the first example: a window that reaches into the padding, and the call as code."""


def screenshot(url: str) -> bytes:
    example = httpx.get(f"{url}/playground/examples.json").raise_for_status().json()[0]
    executable = shutil.which("chromium")
    if executable is None:
        sys.exit("chromium is not on the PATH; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(f"{url}/{example['fragment']}{MORE}")
        page.wait_for_selector("[role=gridcell].pinned")
        page.wait_for_selector("[role=gridcell].lit")
        page.wait_for_selector("#picture:not(.stale)[data-links=true]")
        page.wait_for_selector("#panel pre")
        taken = page.screenshot()
        browser.close()
    return taken


def main(server: str) -> None:
    image = Image.open(io.BytesIO(screenshot(server))).convert("RGB")
    image.quantize(128).save(Path(__file__).parent / "playground.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
