"""Tables of cells of which every run of the suite tests the telling ones, and `make tables` all."""

from collections.abc import Collection, Iterable

import pytest


def cells(table: Iterable, *, telling: Collection):
    """Parameters for `pytest.mark.parametrize`; those that are not telling are marked `rest_of_table`.

    Raises:
        ValueError: a telling cell is not in the table.
    """
    table = list(table)
    if missing := [cell for cell in telling if cell not in table]:
        raise ValueError(f"no such cells: {missing}")
    rest = pytest.mark.rest_of_table
    return [pytest.param(cell, marks=() if cell in telling else rest) for cell in table]
