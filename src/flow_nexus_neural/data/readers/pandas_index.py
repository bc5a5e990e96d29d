"""The index of a pandas frame as a column of a file: numbers of rows are left out, times are kept."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_UNNAMED: Final = re.compile(r"__index_level_\d+__|index|level_\d+")
_TIMES: Final = "timestamp"
_MAX_METADATA_BYTES: Final = 1024 * 1024


def index_columns(schema: Any) -> frozenset[str]:
    """Columns of an Arrow schema that hold the index of the frame that was written, where it had no name."""
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    written = metadata.get(b"pandas", b"")
    if not 0 < len(written) <= _MAX_METADATA_BYTES:
        return frozenset()
    try:
        described = json.loads(written)
    except (ValueError, RecursionError):
        return frozenset()
    names = described.get("index_columns") if isinstance(described, dict) else None
    return frozenset(
        name
        for name in (names if isinstance(names, list) else ())
        if isinstance(name, str) and _UNNAMED.fullmatch(name)
    )


def renamed(name: str, others: Iterable[str]) -> str:
    """The name of an index of times among the other columns."""
    return name if _TIMES in others else _TIMES


def left_out_note(names: Iterable[str]) -> tuple[str, ...]:
    """What to say of index columns that are left out."""
    told = ", ".join(f"'{name[:40]}'" for name in sorted(names)[:8])
    return (f"{told} is the index of a pandas frame and is left out",) if told else ()
