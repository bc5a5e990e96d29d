"""Quotes text that was written by a node, for errors, status and logs.

The text is untrusted and may be read at a terminal or by a model. So it is made printable, put on one line,
bounded and quoted: it can contain no terminal command and cannot be taken for the server's own text.
"""

from typing import Final

REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
CUT: Final = "..."
MARK: Final = "in its own words: "
"""Precedes every quotation of a node inside a sentence."""


def plain(text: str, longest: int) -> str:
    """Replace unprintable characters and truncate to `longest` characters, with three dots if truncated."""
    kept = "".join(char if char.isprintable() else REPLACED for char in text[:longest])
    return kept + (CUT if len(text) > longest else "")


def plain_lines(text: str, longest: int) -> str:
    """The last `longest` characters with their line breaks; each line made printable."""
    lines = text[-longest:].split("\n")
    return "\n".join(plain(line.rstrip("\r"), longest) for line in lines)


def quoted(text: str, longest: int) -> str:
    """Put a text into single quotation marks, with quotation marks inside it escaped."""
    escaped = plain(text, longest).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def own_words(text: str, longest: int) -> str:
    """A quotation preceded by `MARK`, which attributes it to the node."""
    return MARK + quoted(text, longest)


def shortened(sentence: str, longest: int) -> str:
    """Truncate a sentence that may quote a node; a quotation that is cut in the middle is closed."""
    if len(sentence) <= longest:
        return sentence
    kept = sentence[:longest].rstrip("\\")
    return kept + CUT + ("'" if _is_open(kept) else "")


def _is_open(text: str) -> bool:
    """Whether a text ends inside single quotation marks as written by `quoted`."""
    is_open = escaped = False
    before = " "
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and is_open:
            escaped = True
        elif char == "'" and (is_open or not before.isalnum()):  # else an apostrophe
            is_open = not is_open
        before = char
    return is_open
