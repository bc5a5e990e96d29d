#!/bin/sh
# safetensors 0.8.0, numpy: a transposed or Fortran-ordered array is saved in the order of its memory under its
# own shape, without an error or a warning, and loads back as another matrix.
#
# A weight matrix that comes from another framework is often a transposed view. The array's buffer is saved as it
# lies: the digest of such a file is in order, its shapes are in order, and the model answers nonsense.
# numpy.ascontiguousarray before saving is the way out.
#
# Seen with safetensors 0.8.0, numpy 2.4.6, Python 3.11: "transposed equal: False, Fortran equal: False,
# contiguous copy equal: True".
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "safetensors==0.8.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load, save

matrix = np.arange(12, dtype=np.float32).reshape(3, 4)


def survives(array: np.ndarray) -> bool:
    return bool(np.array_equal(load(save({"x": array}))["x"], array))


transposed, fortran = survives(matrix.T), survives(np.asfortranarray(matrix))
copied = survives(np.ascontiguousarray(matrix.T))
print(
    f"transposed equal: {transposed}, Fortran equal: {fortran}, contiguous copy equal: {copied}"
)
sys.exit(0 if (transposed, fortran, copied) == (False, False, True) else 1)
PYTHON
