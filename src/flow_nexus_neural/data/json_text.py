"""Strict JSON, decoded item by item so that other threads can run in between.

The standard decoder holds the interpreter lock while it decodes the whole text: one second for 100 MB.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_INLINE_BYTES = 5_000_000
FORMS = (
    'valid forms: {"X": [[...]], "y": [...]}, a list of records, {"columns": [...], "rows": [[...]]},'
    ' or {"clients": {"a": {"X": ..., "y": ...}}}'
)
_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list"}
_STEP = 1 << 16
"""Characters that are encoded at one time to be counted, so that counting takes no memory."""
SHORT_WINDOWS = (1 << 12, 1 << 16)
TEXT_WINDOWS = (1 << 8, 1 << 16, 1 << 20)
LONG_WINDOWS = (*SHORT_WINDOWS, 1 << 20)
"""Characters in which the end of an item is looked for, so that no decoding holds the lock for long."""
RUN_CHARS = 1 << 14
"""Characters of an object's members that are decoded at once where they are short."""
_CUTS = 16
_FREED_ITEMS = 1_000
_MAX_QUOTINGS = 3
_space = re.compile(r"[ \t\n\r]*").match


def parse_text(text: str, subject: str, max_bytes: int = MAX_INLINE_BYTES) -> object:
    """Parse strict JSON.

    Raises:
        LimitExceeded: If the text is too long.
        InvalidDataset: If it is not JSON, is nested too deeply, or holds NaN or Infinity.
    """
    length = _utf8_length(text)
    if length > max_bytes:
        raise LimitExceeded(
            f"{subject}: {length} bytes of JSON; the limit is {max_bytes} bytes",
            hint="put the data into a file in the data directory and pass its path",
        )
    try:
        return decode_in_steps(text)
    except (ValueError, RecursionError) as failure:
        raise InvalidDataset(f"{subject} is not valid JSON: {failure}"[:300], hint=FORMS) from None


def without_quotes(text: str) -> str:
    """JSON text that was written as a JSON text again, as it was before; any other text as it is."""
    for _ in range(_MAX_QUOTINGS):
        if not text.lstrip().startswith('"'):
            break
        try:
            inner = json.loads(text)
        except ValueError:
            break
        if not isinstance(inner, str):
            break
        text = inner
    return text


def decode_in_steps(text: str) -> object:
    """Decode JSON with the result of `json.loads`, without one long hold of the interpreter lock.

    Members of objects are decoded one by one, down to the first list, and so are the items of that list.

    Raises:
        ValueError: If the text is not strict JSON.
        RecursionError: If it is nested too deeply.
    """
    value, end = _Decoder(text).value(_skip(text, 0))
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def records_in_steps(text: str) -> Iterator[tuple[object, int]]:
    """Decode a list item by item; each comes with the length of its text, and only one is held.

    Raises:
        ValueError: If the text is not a list in strict JSON, or an item is too long to be decoded at once.
        RecursionError: If it is nested too deeply.
    """
    decoder = _Decoder(text)
    place = _skip(text, 0)
    if text[place : place + 1] != "[":
        raise json.JSONDecodeError("Expecting a list", text, place)
    place = _skip(text, place + 1)
    more = True
    if text[place : place + 1] == "]":
        more, place = decoder.separator("]", place)
    while more:
        item, length = decoder.short_item(place)
        yield item, length
        more, place = decoder.separator("]", _skip(text, place + length))
    if place != len(text):
        raise json.JSONDecodeError("Extra data", text, place)


def free_in_steps(value: object) -> None:
    """Empty a decoded document: freeing it at once would hold the interpreter lock as long as decoding it."""
    if isinstance(value, dict):
        for member in value.values():
            free_in_steps(member)
    while isinstance(value, list) and value:
        del value[-_FREED_ITEMS:]


def check_inline_size(value: object) -> None:
    """Apply the limits of `parse_text` to values that are decoded already.

    Raises:
        LimitExceeded: If its JSON text would be too long.
        InvalidDataset: If it holds NaN or Infinity, or something that is not JSON.
    """
    length = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            length += 2 + sum(_utf8_length(str(key)) + 4 for key in item)
            pending.extend(item.values())
        elif isinstance(item, list):
            length += 2 + len(item)
            pending.extend(item)
        else:
            length += _scalar_length(item)
        if length > MAX_INLINE_BYTES:
            raise LimitExceeded(
                f"inline data are more than {MAX_INLINE_BYTES} bytes of JSON",
                hint="put the data into a file in the data directory and pass its path",
            )


def _utf8_length(text: str) -> int:
    """Bytes that a text takes on the wire; lone surrogates, which it cannot hold, are counted too."""
    if text.isascii():
        return len(text)
    parts = (text[start : start + _STEP] for start in range(0, len(text), _STEP))
    return sum(len(part.encode("utf-8", "surrogatepass")) for part in parts)


def _scalar_length(value: object) -> int:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidDataset(
                f"inline data are not valid JSON: they hold {value}",
                hint="numbers must be finite; write null for a missing value",
            )
        return len(repr(value))
    if isinstance(value, str):
        return _utf8_length(value) + 2
    if isinstance(value, int):
        # Decimal digits of large integers are not worth writing out.
        return 1 + value.bit_length() // 3
    if value is None:
        return 4
    raise InvalidDataset(
        f"inline data are not valid JSON: they hold {json_kind(value)}", hint=FORMS
    )


def _skip(text: str, place: int) -> int:
    found = _space(text, place)
    return place if found is None else found.end()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON; write null for a missing value")


class _Decoder:
    """Decodes one text. Every method takes an index into it and returns a value and the index after it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._whole = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode

    def value(self, place: int) -> tuple[object, int]:
        """Decode the value at an index and skip the white space after it; lists are decoded item by item."""
        if self._text[place : place + 1] == "{":
            return self._object(place + 1)
        if self._text[place : place + 1] == "[":
            return self._list(place + 1)
        return self._plain(place)

    def short_item(self, place: int, windows: Sequence[int] = LONG_WINDOWS) -> tuple[object, int]:
        """Decode an object, a list or a text that lies within so many characters.

        Raises:
            ValueError: If it is longer, something else, or no JSON.
        """
        if self._text[place : place + 1] not in ("{", "[", '"'):
            raise json.JSONDecodeError("Expecting an object", self._text, place)
        for window in windows:
            with suppress(json.JSONDecodeError):
                return self._whole(self._text[place : place + window], 0)
        raise json.JSONDecodeError("Something too long, or no JSON", self._text, place)

    def _item(self, place: int) -> tuple[object, int]:
        """An item of a list: at once if it is short, else part by part."""
        if self._text[place : place + 1] not in ("{", "["):
            return self._plain(place)
        try:
            item, length = self.short_item(place, SHORT_WINDOWS)
        except json.JSONDecodeError:
            return self.value(place)
        return item, _skip(self._text, place + length)

    def _plain(self, place: int) -> tuple[object, int]:
        if self._text[place : place + 1] == '"':
            text, length = self.short_item(place, TEXT_WINDOWS)
            return text, _skip(self._text, place + length)
        value, end = self._whole(self._text, place)
        return value, _skip(self._text, end)

    def _list(self, place: int) -> tuple[list[object], int]:
        items: list[object] = []
        place = _skip(self._text, place)
        if self._text[place : place + 1] == "]":
            return items, _skip(self._text, place + 1)
        while True:
            item, place = self._item(place)
            items.append(item)
            more, place = self.separator("]", place)
            if not more:
                return items, place

    def _object(self, place: int) -> tuple[dict[str, object], int]:
        members: dict[str, object] = {}
        place = _skip(self._text, place)
        if self._text[place : place + 1] == "}":
            return members, _skip(self._text, place + 1)
        in_runs = True
        while True:
            run, end = self._run(place) if in_runs else ({}, place)
            in_runs = bool(run)
            if run:
                members.update(run)
                _, place = self.separator("}", end)
            if self._text[place : place + 1] != '"':
                raise json.JSONDecodeError("Expecting property name", self._text, place)
            key, place = self._plain(place)
            if self._text[place : place + 1] != ":":
                raise json.JSONDecodeError("Expecting ':' delimiter", self._text, place)
            members[str(key)], place = self.value(_skip(self._text, place + 1))
            more, place = self.separator("}", place)
            if not more:
                return members, place

    def _run(self, place: int) -> tuple[dict[str, object], int]:
        """Many short members of an object at once, up to a comma; none if no such comma is found."""
        window = self._text[place : place + RUN_CHARS]
        cut = len(window) if len(window) == RUN_CHARS else 0
        for _ in range(_CUTS):
            cut = window.rfind(",", 0, cut)
            if cut <= 0:
                break
            # Whatever decodes ends where a member ends: else a text or a bracket would be open.
            with suppress(json.JSONDecodeError):
                members, end = self._whole("{" + window[:cut] + "}", 0)
                if end == cut + 2:  # else the object ends within the window
                    return members, place + cut
        return {}, place

    def separator(self, closing: str, place: int) -> tuple[bool, int]:
        mark = self._text[place : place + 1]
        if mark == closing:
            return False, _skip(self._text, place + 1)
        if mark != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", self._text, place)
        return True, _skip(self._text, place + 1)


def json_kind(value: object) -> str:
    """The JSON type of a value, for error texts: `a number`, `an object`, `null`."""
    if value is None:
        return "null"
    return "an object" if isinstance(value, dict) else _KINDS.get(type(value), "no JSON value")
