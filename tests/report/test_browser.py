"""The page in a browser: narrow and wide, light and dark, without a complaint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, opened

from activsparse.report import Report, write


@pytest.mark.slow
def test_it_is_drawn_at_every_width_and_in_both_schemes(whole_report: Report, tmp_path: Path):
    odd = replace(whole_report.variants[1], name="<b>odd</b> & $x$")
    report = replace(whole_report, variants=[whole_report.dense, odd, *whole_report.variants[2:]])
    write(report, tmp_path / "report.html")
    with chromium() as browser:
        for width in (400, 1400):
            for scheme in ("light", "dark"):
                with opened(browser, tmp_path / "report.html", width, scheme) as (page, complaints):
                    seen = f"{width} pixels, {scheme}"
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, seen
                    figures = page.locator(".figure")
                    assert figures.count() == 9, seen
                    assert figures.locator("svg.main-svg").count() >= 9, seen
                    assert "<b>odd</b> & $x$" in page.locator("#accuracy").inner_text(), seen
                    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
                    ink = page.locator("#accuracy .xtick text").first.evaluate(
                        "element => getComputedStyle(element).fill"
                    )
                    dark = scheme == "dark"
                    assert (brightness(light) < brightness(ink)) == dark, seen

                    under = "getComputedStyle(document.querySelector('.masks img')).backgroundImage"
                    before = page.evaluate(under)
                    page.locator("[data-photo='1']").click()
                    assert page.evaluate(under) != before, seen
                    assert page.locator("[aria-pressed=true]").count() == 1, seen
                    assert not complaints, f"{seen}: {complaints}"


def brightness(colour: str) -> float:
    """Mean of the channels of `rgb(r, g, b)`."""
    return float(np.mean([float(x) for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]))
