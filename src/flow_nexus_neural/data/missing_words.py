"""One rule for words such as `none` and `NA`, whatever form the data have.

Among numbers, true and false, texts that begin with digits as dates do, and more than a hundred texts
they stand for a missing value. Among a few words they are a word like the others, since `none` may well be a
class; the caller is told. An empty text and null are missing everywhere.
"""

from dataclasses import replace

import numpy as np

from flow_nexus_neural.data.table import Table, TextColumn, is_missing

MAX_WORDS = 100
"""Different texts beyond which a column is neither a class nor a category."""
_TRUTH = frozenset({"true", "false", "t", "f", "yes", "no", "y", "n"})
_MAX_TOLD = 8


def settled(table: Table) -> Table:
    """The table with each such word either a text, and named in the notes, or missing."""
    columns = dict(table.columns)
    told: list[str] = []
    for name, column in table.columns.items():
        if not isinstance(column, TextColumn):
            continue
        words = [code for code, level in enumerate(column.levels) if is_missing(level)]
        if not words:
            continue
        if _is_of_words(column):
            counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
            told += [
                f"'{column.levels[code]}' in '{name[:40]}' ({counts[code]} cells)" for code in words
            ]
        else:
            columns[name] = _without(column, words)
    if not told:
        return replace(table, columns=columns)
    more = f" and {len(told) - _MAX_TOLD} more" if len(told) > _MAX_TOLD else ""
    note = (
        f"{', '.join(told[:_MAX_TOLD])}{more}: a text like the others there, not a missing value; leave a"
        " cell empty where the value is missing"
    )
    return replace(table, columns=columns, remarks=(*table.remarks, note))


def _is_of_words(column: TextColumn) -> bool:
    """Whether the other texts are a few words, as those of a class or a category are."""
    others = [level for level in column.levels if not is_missing(level)]
    if not 0 < len(others) <= MAX_WORDS or {level.lower() for level in others} <= _TRUTH:
        return False
    return all(level[0].isalpha() for level in others)


def _without(column: TextColumn, words: list[int]) -> TextColumn:
    """The column with these levels missing."""
    kept = [code for code in range(len(column.levels)) if code not in set(words)]
    number = np.full(len(column.levels) + 1, -1, dtype=np.int32)
    number[kept] = np.arange(len(kept), dtype=np.int32)
    # Code -1 finds the last place, which stays -1.
    return TextColumn(number[column.codes], tuple(column.levels[code] for code in kept))
