"""Compare what a program printed with an expected text; placeholders stand for what differs between runs."""

import re

PLACEHOLDERS = {
    "{int}": r"\d+",
    "{float}": r"-?\d+(?:\.\d+)?(?:e-?\d+)?",
    "{floats}": r"-?\d+\.\d+(?: -?\d+\.\d+)*",
    "{id}": r"(?:dnc|node|trn)_[0-9a-f]{12}",
    "{digest}": r"[0-9a-f]{16}",
    "{word}": r"\w+",
    "{note}": r"(?: \(confidence too low to act\))?",
}
REPEATS = {"* ": 0, "+ ": 1}


def first_difference(expected: list[str], printed: list[str]) -> str | None:
    """Compare line by line; `* ` and `+ ` begin a line that may repeat (from zero, from one)."""
    rest = list(printed)
    for number, line in enumerate(expected, start=1):
        least = REPEATS.get(line[:2])
        pattern = as_pattern(line if least is None else line[2:])
        count = 0
        while rest and pattern.fullmatch(rest[0]) and (least is not None or count == 0):
            rest.pop(0)
            count += 1
        if count < (1 if least is None else least):
            found = rest[0] if rest else "the end"
            return f"expected line {number} {line!r}, printed {found!r}"
    return f"printed further: {rest[0]!r}" if rest else None


def as_pattern(line: str) -> re.Pattern[str]:
    """The regular expression of an expected line; placeholders stand for values."""
    text = re.escape(line)
    for placeholder, pattern in PLACEHOLDERS.items():
        text = text.replace(re.escape(placeholder), pattern)
    return re.compile(text)
