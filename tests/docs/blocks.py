"""The fenced blocks of README and the documentation, and what of them runs where.

Whoever adds a command or a snippet to a page adds it to a test, or to `NOT_RUN` with a reason.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["NOT_COMMANDS", "NOT_RUN", "RUN", "Line", "lines_of", "pages"]

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = ("", "sh", "bash", "console")


class Line(NamedTuple):
    """A command, or the first line of a block of another language.

    Attributes:
        page: path from the repository's root.
        language: of its block.
        text: without the comment behind it.
    """

    page: str
    language: str
    text: str


def pages() -> list[str]:
    """All pages for people who use the project or work on it."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for folder in ("integrations", "examples", "benchmarks", "reproduce"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(str(path.relative_to(ROOT)) for path in found)


def lines_of(page: str) -> list[Line]:
    """Every command of a page, and every block of another language by its first line."""
    found = []
    for language, block in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        lines = block.replace("\\\n", " ").splitlines() if language in _SHELL else [block]
        if not language and any(re.match(start, block) for start in NOT_COMMANDS):
            continue
        for line in lines:
            text = re.sub(r"\s{2,}#.*", "", line.strip().splitlines()[0] if line.strip() else "")
            if text and not (language in _SHELL and text.startswith("#")):
                found.append(Line(page, language, text))
    return found


NOT_COMMANDS = (
    r"ONNX file -> graph",  # a drawing
    r"config\.yaml +the resolved recipe",  # folders and files
    r"repository/classifier/config",
    r"Session\(",  # an interface
    r"\w+(\.\w+)*\(.*\)(\s|$)",
    r"\.?\w+\(",
    r"\{\"machine\"",
)
"""How blocks without a language begin that nobody types."""

STEPS = "tests/docs/test_step_by_step.py"
BRIEF = "tests/docs/test_brief_commands.py"
OF_PAGES = f"{STEPS}::test_the_commands_of_a_page_run"
OF_README = f"{STEPS}::test_the_readme_s_results_are_used_as_it_says"

RUN: tuple[tuple[str, str, str], ...] = (
    # Page, what a line begins with, the test that runs it or what it stands for.
    (r"README\.md", r"activsparse sparsify resnet18", "tests/docs/test_tutorial.py"),
    (r"README\.md", r"(taskset -c 1 )?activsparse ", OF_README),
    (r"README\.md", r"import activsparse$", "tests/docs/test_readme.py"),
    (r"README\.md", r"import activsparse\.", OF_README),
    (r"README\.md", r"make demo", "tests/examples/test_demo.py"),
    (r"README\.md", r"(cmake|cc|build/c)", "tests/engine/test_plan_in_c.py"),
    (r"README\.md", r"pip install --find-links", "tests/test_wheel.py"),
    (r".*", r"pip install ['.]", "tests/docs/test_blocks.py::test_extras_to_install_exist"),
    (r"docs/raspberry-pi\.md", r"pip install ", "tests/engine/test_aarch64_wheel.py"),
    (r"docs/(litert|plan-format|versions)\.md", r"activsparse (compile|info|convert)", OF_PAGES),
    (r"docs/search\.md", r"activsparse (sensitivity|prune)", OF_PAGES),
    (
        r"docs/search\.md",
        r"activsparse (calibrate|plan runs|train --recipe R|mask)",
        f"{BRIEF}::test_a_plan_by_the_page",
    ),
    (
        r"docs/search\.md",
        r"activsparse train --recipe fashion_mnist_best",
        f"{BRIEF}::test_a_pruned_network_is_trained_with_masks_by_the_page",
    ),
    (r"docs/quantisation\.md", r"activsparse quantize", OF_PAGES),
    (r"integrations/onnxruntime/README\.md", r"activsparse compile", OF_PAGES),
    (r"docs/recipes\.md", r"activsparse train", f"{BRIEF}::test_the_recipes_page"),
    (r"docs/recipes\.md", r"extends: ", "tests/docs/test_training.py"),
    (r"docs/recipes\.md", r"torchrun ", "tests/docs/test_scale_out.py"),
    (r"docs/detection\.md", r"activsparse ", f"{BRIEF}::test_the_detection_page"),
    (r"docs/detection\.md", r"(import|from) ", "tests/docs/test_detection.py"),
    (r"docs/raspberry-pi\.md", r"(python -c|export_onnx|activsparse (mask|compile))", STEPS),
    (r"docs/raspberry-pi\.md", r"cmake ", "tests/native/test_aarch64.py"),
    (
        r"docs/raspberry-pi\.md",
        r"make wheels",
        "tests/engine/test_aarch64_wheel.py",
    ),
    (r"docs/performance\.md", r"taskset -c 1 python", f"{BRIEF}::test_the_kernel_benchmark"),
    (r"docs/(tutorial|training)\.md", r"", "tests/docs/test_{page}.py"),
    (r"docs/quantisation\.md", r"import torch", "tests/docs/test_quantisation.py"),
    (
        r"(docs/search\.md|integrations/onnxruntime/README\.md)",
        r"(from|import|activsparse\.onnxruntime\.rewrite)",
        f"{STEPS}::test_the_python_of_pages_runs",
    ),
    (r"docs/litert\.md", r"(import|from) ", f"{BRIEF}::test_the_delegate_by_the_page"),
    (r"docs/c\.md", r"#include", "tests/engine/test_plan_in_c.py"),
    (
        r"docs/scale-out\.md",
        r"(MODEL|curl|python|torchrun)",
        "tests/docs/test_scale_out.py",
    ),
)

NOT_RUN: tuple[tuple[str, str, str], ...] = (
    (r"README\.md", r"make test", "is what runs this test"),
    (r"CONTRIBUTING\.md", r"make|sh \.ci/run", "continuous integration is made of these"),
    (r"docs/architecture\.md", r"# masks/|Session\(|Executor\(", "signatures, to be read"),
    (r"docs/search\.md", r"activsparse plan resnet18", "ImageNet's images are needed"),
    (r"docs/litert\.md", r"activsparse export", "tests/export/test_tflite.py, with litert-torch"),
    (r"docs/scale-out\.md", r"pip install", "packages of others, from the index"),
    (r"docs/raspberry-pi\.md", r"ssh|uname|rsync|scp|sudo|vcgencmd|echo", "are for a Pi"),
    (r"docs/raspberry-pi\.md", r"python3 -m venv|build/classify", "are for a Pi"),
    (r"docs/raspberry-pi\.md", r"activsparse (bench|--version)", "are for a Pi"),
)
"""Page, what a line begins with, why no test runs it."""
