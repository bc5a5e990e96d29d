"""Memory of the nodes of several hosts: written once by the engine, put once on every host that needs it."""

from collections.abc import Callable
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from flow_nexus_neural.errors import InvalidState
from flow_nexus_neural.protocol.codec import pack, raw_bytes
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.runtime.connection.memory import ALIGNMENT, Grantable, GrantFrame

_NUMBERS: Final = count(1)


class HostRegion(Grantable):
    """Read-only arrays; on a host they lie in sealed memory that all its nodes map.

    Args:
        key: Names it in requests.
        arrays: Copied.
        given_up: Called with its number when the engine gives it up.
    """

    def __init__(self, key: str, arrays: Arrays, given_up: Callable[[int], None]) -> None:
        super().__init__(key, *pack(arrays, ALIGNMENT))
        self.number = next(_NUMBERS)
        self._given_up = given_up
        self._arrays: dict[str, NDArray[Any]] | None = {
            name: np.array(array, order="C") for name, array in arrays.items()
        }

    @override
    def grant_frame(self) -> GrantFrame:
        """The frame that grants it; the number stands for the descriptor that only a host has."""
        self._content()
        return GrantFrame(self._grant(), descriptor=self.number)

    def specs(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Its arrays as (name, dtype, shape)."""
        return [(one.name, one.dtype, one.shape) for one in self.layout]

    def body(self) -> list[memoryview]:
        """The bytes of its arrays, one after the other."""
        return [
            raw_bytes(array, layout.dtype)
            for layout, array in zip(self.layout, self._content().values(), strict=True)
        ]

    @override
    def close(self) -> None:
        """Give up the engine's copy and, with it, those of the hosts; nodes keep theirs. Idempotent."""
        if self._arrays is not None:
            self._arrays = None
            self._given_up(self.number)

    def __del__(self) -> None:
        self.close()

    def _content(self) -> dict[str, NDArray[Any]]:
        if self._arrays is None:
            raise InvalidState(f"region {self.key} has been given up")
        return self._arrays
