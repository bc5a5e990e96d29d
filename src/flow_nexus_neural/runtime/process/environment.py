"""The environment variables of the zygote and of exec'd nodes. Standard library only."""

from collections.abc import Mapping
from typing import Final

# Nothing is inherited: a node's memory is a copy of the zygote's, so the environment must hold no secret.
# The number of threads must be set before numpy is imported, which else starts a pool thread; with threads
# a fork is not safe. Without the MALLOC_ variables a trained node takes about 6 MB more.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
