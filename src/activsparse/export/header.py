"""Masks as a C header, to be compiled into an inference routine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from activsparse.errors import ActivsparseError
from activsparse.masks import Mask

__all__ = ["c_names", "header_text"]

_PROLOGUE = """\
/* Which output positions each layer computes: 1 = computed, 0 = skipped. [row][column] */
#ifndef {guard}
#define {guard}

#include <stdint.h>

/* Each source file that includes this gets its own arrays, used or not. */
#ifndef ACTIVSPARSE_MASK
#ifdef __GNUC__
#define ACTIVSPARSE_MASK static __attribute__((unused))
#else
#define ACTIVSPARSE_MASK static
#endif
#endif
"""


def header_text(masks: Mapping[str, Mask], file_name: str = "masks.h") -> str:
    """Write masks as C99, one `const uint8_t LAYER_NAME[OH][OW] = {...};` per layer.

    The storage class stands on the line before, so that the definitions read as in the published
    format, and including the header in several source files is no link error.

    Args:
        masks: layer name -> bool (OH, OW), True = computed.
        file_name: of the header; its include guard follows from it.

    Raises:
        ActivsparseError: there are no masks.
    """
    if not masks:
        raise ActivsparseError(f"{file_name}: there are no masks to write; the model is dense")
    guard = f"ACTIVSPARSE_{_identifier(file_name)}"
    parts = [_PROLOGUE.format(guard=guard)]
    for (layer, mask), name in zip(masks.items(), c_names(masks), strict=True):
        rows = ",\n".join("  {" + ", ".join(str(int(kept)) for kept in row) + "}" for row in mask)
        height, width = mask.shape
        definition = f"const uint8_t {name}[{height}][{width}] = {{\n{rows}\n}};"
        parts.append(f"/* {_comment(layer)} */\nACTIVSPARSE_MASK\n{definition}\n")
    parts.append(f"#endif /* {guard} */\n")
    return "\n".join(parts)


def c_names(layers: Iterable[str]) -> list[str]:
    """C identifiers for layer names: upper case, underscores for all but letters and digits.

    Names that start with a digit get the prefix `LAYER_`; names that were used already get a
    number.
    """
    names: list[str] = []
    for layer in layers:
        base = name = _identifier(layer)
        number = 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names


def _identifier(text: str) -> str:
    name = re.sub(r"[^0-9A-Z_]", "_", text.upper())
    # C reserves names that start with an underscore, too.
    return name if re.match(r"[A-Z]", name) else f"LAYER_{name.lstrip('_')}"


def _comment(text: str) -> str:
    """`text` where it cannot end a C comment or hide a line."""
    return re.sub(r"[^ -~]|\*/|/\*|\\", "?", text)
