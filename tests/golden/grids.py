# SPDX-License-Identifier: Apache-2.0
"""Writes lib/quant/grids.c: the codebooks of the IQ1, IQ2 and IQ3 formats.

    python tests/golden/grids.py        (needs numpy and the PyPI package gguf)

The points of a codebook are a fact of the format and follow no formula; they are read from the package gguf
and written with two bits (three for IQ3) per coordinate, the first coordinate lowest.
"""
import pathlib

import gguf
import numpy as np

BOOKS = [("iq1", "IQ1_S"), ("iq2_xxs", "IQ2_XXS"), ("iq2_xs", "IQ2_XS"), ("iq2_s", "IQ2_S"), ("iq3_xxs", "IQ3_XXS"),
         ("iq3_s", "IQ3_S")]

out = ["/* grids.c - the codebooks of the IQ formats, written by tests/golden/grids.py.",
       " *",
       " * An entry is one point: its coordinates as indices into the format's levels (iq.c), two bits each, three in",
       " * iq3, the first lowest.",
       " *",
       " * SPDX-License-Identifier: Apache-2.0",
       " */",
       '#include "quant/grids.h"']
for name, kind in BOOKS:
    book = getattr(gguf.quants, kind)
    book.init_grid()
    levels = list(book.grid_map)
    points = np.array(book.grid).reshape(book.grid_shape)
    bits = 3 if len(levels) == 8 else 2
    words = [sum(levels.index(v) << bits * i for i, v in enumerate(point)) for point in points]
    out += ["", f"const uint16_t ap_grid_{name}[{len(words)}] = {{"]
    for i in range(0, len(words), 14):
        out.append("    " + " ".join(f"{w:#06x}," for w in words[i:i + 14]))
    out.append("};")
path = pathlib.Path(__file__).resolve().parents[2] / "lib" / "quant" / "grids.c"
path.write_text("\n".join(out) + "\n")
print(path)
