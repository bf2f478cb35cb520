"""Draws docs/report.png, the picture of a report in the README.

activsparse report DENSE SPARSE... --out report.html
python docs/draw_report.py report.html
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1040, 1880
COLOURS = 96  # as many as a small file can afford


def main() -> None:
    """Open the page in Chromium and keep its beginning."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(Path(sys.argv[1]).resolve().as_uri())
        page.wait_for_selector("html[data-drawn=yes]", state="attached")
        shot = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    shot.convert("RGB").quantize(COLOURS).save(
        Path(__file__).with_name("report.png"), optimize=True
    )


if __name__ == "__main__":
    main()
