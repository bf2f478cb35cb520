"""The console of the commands."""

from __future__ import annotations

import io
import subprocess
import sys

from rich.table import Table

from activsparse.cli.console import plain_console


def test_a_line_of_text_is_never_cut():
    file = io.StringIO()
    line = "Wrote /" + "a folder of some depth/" * 12 + "model.plan"
    plain_console(file=file, width=40).print(line)
    assert file.getvalue() == line + "\n"


def test_tables_keep_to_the_width():
    file = io.StringIO()
    table = Table("name")
    table.add_row("words " * 40)
    plain_console(file=file, width=40).print(table)
    assert max(map(len, file.getvalue().splitlines())) <= 40


def test_a_line_is_said_once_whatever_packages_do_to_logging():
    code = (
        "import logging; from activsparse import cli; cli.main(['info', 'none.onnx'])\n"
        "logging.basicConfig(level=logging.INFO); logging.getLogger('activsparse.x').info('ours')\n"
        "logging.getLogger('other').info('theirs'); logging.getLogger('other').warning('warned')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[1:] == ["ours", "warned"]
