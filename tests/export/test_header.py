import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse import ActivsparseError
from activsparse.export.header import c_names, header_text
from activsparse.masks import lattice, tiles

GCC = ["gcc", "-std=c99", "-Wall", "-Werror"]
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

MASKS = {
    "layer1.0.conv1": tiles((14, 10), 0.27),
    "0.conv": lattice((3, 5), 1 / 3),
    "layer1_0.conv1": lattice((4, 4), 0.5),
    "block/a-b:0 */ \\": lattice((1, 7), 0.5),
}
NAMES = ["LAYER1_0_CONV1", "LAYER_0_CONV", "LAYER1_0_CONV1_2", "BLOCK_A_B_0_____"]


def compile_and_run(folder, *sources):
    program = folder / "program"
    subprocess.run([*GCC, "-o", program, *sources], cwd=folder, check=True)
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


@needs_gcc
def test_c_reads_the_masks_back(tmp_path):
    (tmp_path / "masks.h").write_text(header_text(MASKS))
    loops = "".join(
        f"for (int i = 0; i < {mask.size}; i++) putchar('0' + (&{name}[0][0])[i]);\n"
        f'printf(" %d\\n", (int)(sizeof {name} / sizeof {name}[0]));\n'
        for name, mask in zip(NAMES, MASKS.values(), strict=True)
    )
    (tmp_path / "main.c").write_text(
        f'#include "masks.h"\n#include "masks.h"\n#include <stdio.h>\n'
        f"int main(void) {{ {loops} return 0; }}\n"
    )
    # Included in two source files, and used in one only.
    (tmp_path / "other.c").write_text('#include "masks.h"\nint other;\n')
    lines = compile_and_run(tmp_path, "main.c", "other.c").splitlines()
    for line, mask in zip(lines, MASKS.values(), strict=True):
        assert line == "".join(str(int(kept)) for kept in mask.ravel()) + f" {len(mask)}"


@needs_gcc
def test_the_header_compiles_by_itself(tmp_path):
    (tmp_path / "masks.h").write_text(header_text(MASKS))
    subprocess.run([*GCC, "-fsyntax-only", "-x", "c", "masks.h"], cwd=tmp_path, check=True)


def test_format():
    text = header_text({"layer1.0.conv1": np.array([[True, False], [False, True]])}, "my-net.h")
    assert "const uint8_t LAYER1_0_CONV1[2][2] = {\n  {1, 0},\n  {0, 1}\n};\n" in text
    assert re.search(r"^#ifndef ACTIVSPARSE_MY_NET_H$", text, re.MULTILINE)
    assert text.index("#include <stdint.h>") < text.index("const uint8_t")
    assert text.isascii()


def test_names():
    assert c_names(MASKS) == NAMES
    assert c_names(["a.b", "a_b", "a_b_2", "A.B"]) == ["A_B", "A_B_2", "A_B_2_2", "A_B_3"]


@given(st.lists(st.text(max_size=6), max_size=8))
def test_names_are_distinct_identifiers(layers):
    names = c_names(layers)
    assert len(set(names)) == len(layers)
    assert all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name in names)


def test_no_masks():
    with pytest.raises(ActivsparseError, match=r"m\.h: there are no masks to write"):
        header_text({}, "m.h")
