"""The environment variables of the zygote and of exec'd nodes. Standard library only."""

from collections.abc import Mapping
from typing import Final

# Nothing is inherited: a node's memory is a copy of the zygote's, so the environment must hold no secret.
# The number of threads must be set before numpy is imported, which else starts a pool thread; with threads
# a fork is not safe.
#
# One arena: further ones would hold free memory that nobody uses. The thresholds: temporaries of up to
# 32 MiB, the most that glibc accepts, come from memory that is free already. With 128 KiB every optimiser
# step maps, faults in and unmaps its own (`bench.allocator`: 5,900 page faults, two fifths of its processor
# time). What is free at the end is given back by `node.loop`.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}
