"""The environment variables of every process that is, or forks, a node. Standard library only."""

from collections.abc import Mapping
from typing import Final

# Built from nothing: a node's memory is a copy of the zygote's, so no secret may be in it. One thread per
# library must be decided before numpy is imported; the allocator settings keep a node small.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
