"""The documentation builds as a site without a broken link, and its pages fetch nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Fetched(HTMLParser):
    """What a browser loads for a page without being asked."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = ["src", "srcset", "poster", "data"] + (["href"] if tag in ("link", "use") else [])
        self.addresses += [value for name in names if (value := given.get(name))]
        assert given.get("class") != "mermaid"  # drawn by a script from elsewhere


def build(docs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", docs, "-d", out],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_it_builds_and_needs_no_connection(tmp_path):
    built = build(ROOT / "mkdocs.yml", tmp_path / "site")
    assert built.returncode == 0, built.stderr[-3000:]
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "api.html", "tutorial.html"} <= {page.name for page in pages}
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text())
        assert fetched.addresses
        outside = [x for x in fetched.addresses if re.match(r"(\w+:)?//", x)]
        assert not outside, f"{page.name}: {outside}"
    for style in (tmp_path / "site").rglob("*.css"):
        found = re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)\s]*", style.read_text())
        assert not found, f"{style.name}: {found}"
    text = (tmp_path / "site" / "api.html").read_text()
    for name in ("activsparse.Session", "activsparse.sparsify", "activsparse.masks.MaskOptions"):
        assert f'id="{name}"' in text


@pytest.mark.slow
@pytest.mark.parametrize("link", ["nowhere.md", "tutorial.md#nowhere", "../nowhere.py"])
def test_a_link_to_nowhere_fails_it(tmp_path, link):
    (tmp_path / "docs").mkdir()
    for path in (ROOT / "docs").iterdir():
        (tmp_path / "docs" / path.name).symlink_to(path)
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in ("docs", "build"):
            (tmp_path / path.name).symlink_to(path)
    broken = tmp_path / "docs" / "faq.md"
    broken.unlink()
    broken.write_text(f"# Questions\n\n[some]({link})\n")
    for name in ("mkdocs.yml", "docs/repository_pages.py"):  # a link of it would lead back
        (tmp_path / name).unlink()
        (tmp_path / name).write_text((ROOT / name).read_text())
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert built.returncode == 1
    assert f"'{link}'" in built.stderr, built.stderr[-2000:]
