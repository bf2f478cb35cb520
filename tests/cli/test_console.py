"""The console of the commands."""

from __future__ import annotations

import io

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
