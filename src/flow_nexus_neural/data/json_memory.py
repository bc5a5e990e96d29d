"""How much memory a JSON document takes when it is decoded, told from its bytes before it is decoded."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import LimitExceeded

MAX_DECODED_BYTES = 384 * 1024 * 1024
"""Of a document's text and its values together."""
LIST_BYTES = 112
OBJECT_BYTES = 200
MEMBER_BYTES = 34
VALUE_BYTES = 10
"""A place in a list, with what lists reserve."""
NUMBER_BYTES = 32
TEXT_BYTES = 88
"""Of a value or a key, besides its characters; two quotes make one."""
_STEP = 256 * 1024
_FOUR_BYTES_FROM, _TWO_BYTES_FROM = 0xF0, 0xC4
"""First bytes of UTF-8 sequences from which on all characters of a text take four, or two, bytes."""


def check_decoded_size(content: bytes, subject: str, limit: int) -> None:
    """Refuse a document that would take too much memory.

    Raises:
        LimitExceeded: If it would take more than `limit` bytes.
    """
    size = decoded_size(content)
    if size > limit:
        raise LimitExceeded(
            f"{subject} would take about {size} bytes of memory when decoded; the limit is {limit}",
            hint="use CSV, NPZ or JSON Lines with short lines",
        )


def decoded_size(content: bytes) -> int:
    """An upper bound of the bytes of memory that a document takes as text and as values."""
    counts = _counts(content)

    def count(characters: bytes) -> int:
        return int(counts[list(characters)].sum())

    text, width = _text_size(counts)
    digits, quotes = count(b"0123456789"), count(b'"')
    values = count(b",[{") + 1
    # Small integers are shared; others have a sign or three digits, other numbers a dot or an exponent.
    numbers = min(values, digits // 3 + count(b"-.eE"))
    # One escaped character may make a whole text take four bytes per character.
    words = (4 * text // width if count(b"\\") else text) if quotes else 0
    return (
        text
        + words
        + VALUE_BYTES * values
        + NUMBER_BYTES * numbers
        + digits // 2
        + LIST_BYTES * count(b"[")
        + OBJECT_BYTES * count(b"{")
        + MEMBER_BYTES * count(b":")
        + TEXT_BYTES * (quotes // 2)
    )


def text_size(content: bytes) -> int:
    """Bytes of memory that a document takes as text."""
    return _text_size(_counts(content))[0]


def _text_size(counts: NDArray[np.int64]) -> tuple[int, int]:
    """Bytes of a text, and bytes per character."""
    width = 1
    if counts[_TWO_BYTES_FROM:].any():
        width = 4 if counts[_FOUR_BYTES_FROM:].any() else 2
    continuations = int(counts[0x80:0xC0].sum())
    return width * (int(counts.sum()) - continuations), width


def _counts(content: bytes) -> NDArray[np.int64]:
    """How often each byte occurs."""
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(content), _STEP):
        part = np.frombuffer(content, np.uint8, min(_STEP, len(content) - start), start)
        counts += np.bincount(part, minlength=256)
    return counts
