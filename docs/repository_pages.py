"""A hook of mkdocs: pages that live outside of docs/, and links to files of the repository.

README.md is the home page, and some other pages stay where a reader of the repository expects
them, too. A link to a source file leads to a page that shows it, so the site needs no other one.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# By where they lie in the repository: their names as pages.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "integrations/onnxruntime/README.md": "onnxruntime.md",
}
SOURCES = "source/"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^(```.*?^```|~~~.*?^~~~)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".sh": "sh", ".c": "c", ".h": "c", ".cpp": "cpp"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, and one for every file or folder that some page links to."""
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    pages = [*OUTSIDE, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    linked = {
        target
        for page in pages
        if (ROOT / page).is_file()
        for target in _targets(page, (ROOT / page).read_text())
        if target not in OUTSIDE and not target.startswith("docs/")
    }
    for target in sorted(linked):
        files.append(File.generated(config, _source_page(target), content=_show(target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site, and set lists and tables apart as Markdown wants them."""
    uri = page.file.src_uri
    here = next((path for path, name in OUTSIDE.items() if name == uri), f"docs/{uri}")
    if uri.startswith(SOURCES):
        here = uri.removeprefix(SOURCES).removesuffix(".md")
    parts = FENCE.split(markdown)
    for i in range(0, len(parts), 2):  # the odd ones are code
        parts[i] = LINK.sub(lambda link: _on_site(here, uri, link), _set_apart(parts[i]))
    return "".join(parts)


def _on_site(here: str, uri: str, link: re.Match[str]) -> str:
    target = _in_repository(here, link[1])
    if target is None:
        return link[0]
    name = OUTSIDE.get(target) or (
        target.removeprefix("docs/") if target.startswith("docs/") else _source_page(target)
    )
    return posixpath.relpath(name, posixpath.dirname(uri) or ".") + (link[2] or "")


def _targets(page: str, text: str) -> Iterator[str]:
    for part in FENCE.split(text)[::2]:
        for link in LINK.finditer(part):
            target = _in_repository(page, link[1])
            if target is not None:
                yield target


def _in_repository(page: str, link: str) -> str | None:
    """The file or folder a link leads to, as a path in the repository; None if there is none."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return target if (ROOT / target).exists() and not target.startswith("..") else None


def _source_page(target: str) -> str:
    return f"{SOURCES}{target}.md"


def _show(target: str) -> str:
    """A page with the text of a file, or of all files of a folder, or a notebook's cells."""
    path = ROOT / target
    if path.suffix == ".ipynb":
        return "\n\n".join(map(_show_cell, json.loads(path.read_text())["cells"]))
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    text = f"---\nsearch:\n  exclude: true\n---\n# {target}\n"
    for file in files:
        if not file.is_file():
            continue
        if path.is_dir():
            text += f"\n## {file.name}\n"
        text += f"\n~~~~{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}\n~~~~\n"
    return text


def _show_cell(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"])
    return text if cell["cell_type"] == "markdown" else f"~~~~python\n{text}\n~~~~"


def _set_apart(text: str) -> str:
    """Empty lines before lists and tables: the Markdown of repositories does without, mkdocs' not.

    Items of lists within lists are indented by two spaces there, by four here.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        item = re.match(r"(- |\d+\. |\|)", line)
        starts = item and before.strip() and not before.startswith((item[1][:1], " "))
        if starts and not re.match(r"\d+\. ", before):
            lines.append("")
        lines.append(re.sub(r"^  (?=- )", "    ", line))
    return "\n".join(lines)
