"""How arrays are described, in frames and in regions of memory."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from flow_nexus_neural.protocol.plan import Frozen

Name = Annotated[str, Field(min_length=1, max_length=120)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]
DType = Literal["f4", "f8", "i8", "i4", "u1"]

ArraySpecs = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Arrays as (name, dtype, shape), sorted by name."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of arrays, by name."""


class ArrayLayout(Frozen):
    """Where one array lies in a body or a region, in bytes from its start; little endian, C order."""

    name: Name
    dtype: DType
    shape: Annotated[tuple[Count, ...], Field(max_length=4)]
    offset: Count
    nbytes: Count


Layouts = tuple[ArrayLayout, ...]


def rows_of(shapes: Shapes) -> int:
    """Rows of the array `x`; 0 where there is none."""
    shape = shapes.get("x")
    return shape[0] if shape else 0


def specs_of(layouts: Layouts) -> ArraySpecs:
    """Layouts without their places and order."""
    return tuple(sorted((layout.name, layout.dtype, layout.shape) for layout in layouts))
