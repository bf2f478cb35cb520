"""Faults are put where code runs, one at a time."""

from __future__ import annotations

from mutants.mutate import count, mutant

SOURCE = '''
"""A docstring."""
from a import b

Size = int | None

def f(x: int | None = 1, *, y: list[int] | None = None) -> int | None:
    """Another one."""
    if x < 2 and y:
        raise ValueError("1 + 1")
    total: int = x + 3
    return min(total, 5) if x else None
'''


def test_every_fault_of_a_small_file() -> None:
    faults = [mutant("f.py", SOURCE, i) for i in range(count(SOURCE))]
    assert [(fault.line, fault.change) for fault in faults] == [
        (7, "1 -> 2"),
        (9, "if x < 2 and y: -> if not (x < 2 and y):"),
        (9, "x < 2 and y -> x < 2 or y"),
        (9, "x < 2 -> x <= 2"),
        (9, "2 -> 3"),
        (11, "x + 3 -> x - 3"),
        (11, "3 -> 4"),
        (12, "return min(total, 5) if x else None -> return None"),
        (12, "min(total, 5) if x else None -> min(total, 5) if not x else None"),
        (12, "min(total, 5) -> max(total, 5)"),
        (12, "5 -> 6"),
    ]
    assert len({fault.source for fault in faults}) == len(faults)
    assert faults[0].code.startswith("def f(x")
    for fault in faults:
        compile(fault.source, "f.py", "exec")
