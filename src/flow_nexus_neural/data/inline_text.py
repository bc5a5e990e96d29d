"""Data given as text in the call: JSON, JSON Lines, or delimited text, told from the name of a data set."""

import hashlib
from typing import Final

from typing_extensions import override

from flow_nexus_neural.data.data_file import BLOCK_BYTES, DataFile
from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES, without_quotes
from flow_nexus_neural.errors import LimitExceeded

_SUBJECT: Final = "inline data"


def inline_text(dataset: str) -> str | None:
    """The text of inline data, as it was before it was written as JSON text; None for a name.

    Delimited text has more than one line, and several cells in the first.
    """
    text = without_quotes(dataset.strip()).strip()
    first, _, rest = text.partition("\n")
    is_delimited = bool(rest) and any(mark in first for mark in ",;\t|")
    return text if text[:1] in ("{", "[") or is_delimited else None


class InlineText(DataFile):
    """Text of a call as its readers see a file.

    Raises:
        LimitExceeded: If it is too long.
    """

    def __init__(self, text: str, suffix: str) -> None:
        # Not `super().__init__`: there is no descriptor, and nothing can change the bytes.
        content = text.encode("utf-8", "replace")
        if len(content) > MAX_INLINE_BYTES:
            raise LimitExceeded(
                f"{_SUBJECT}: {len(content)} bytes; the limit is {MAX_INLINE_BYTES} bytes",
                hint="put the data into a file in the data directory and pass its path",
            )
        self.name = _SUBJECT
        self.suffix = suffix
        self.size = len(content)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._content = content

    @property
    @override
    def subject(self) -> str:
        return _SUBJECT

    @override
    def block(self, index: int) -> bytes:
        return self._content[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
