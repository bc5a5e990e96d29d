"""Descriptions of arrays in frames and in memory regions."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from flow_nexus_neural.protocol.plan import Frozen, Name

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
DType = Literal["f4", "f8", "i8", "i4", "u1"]

ArraySpecs = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Arrays as (name, dtype, shape), sorted by name."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of arrays, by name."""


class ArrayLayout(Frozen):
    """Place of one array in a frame's body or a region, in bytes from its start; little endian, C order."""

    name: Name
    dtype: DType
    shape: Annotated[tuple[Count, ...], Field(max_length=4)]
    offset: Count
    nbytes: Count


Layouts = tuple[ArrayLayout, ...]


def rows_of(shapes: Shapes) -> int:
    """Number of rows of the array `x`; 0 if there is no such array."""
    shape = shapes.get("x")
    return shape[0] if shape else 0


def specs_of(layouts: Layouts) -> ArraySpecs:
    """Names, dtypes and shapes of layouts, sorted by name and without their offsets."""
    return tuple(sorted((layout.name, layout.dtype, layout.shape) for layout in layouts))
