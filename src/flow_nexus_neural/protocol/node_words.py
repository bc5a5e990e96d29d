"""Text that comes from a node, made fit to stand in an error, a status or a log.

Whoever reads it may be a person at a terminal or a model: it is printable, on one line, bounded and in
quotation marks, so that nothing in it can pass for a command to the terminal or for the server's own words.
"""

from typing import Final

REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
CUT: Final = "..."
MARK: Final = "in its own words: "
"""Stands before every quotation of a node that is part of a sentence."""


def plain(text: str, longest: int) -> str:
    """Printable, on one line, of at most `longest` characters and a sign of the cut."""
    kept = "".join(char if char.isprintable() else REPLACED for char in text[:longest])
    return kept + (CUT if len(text) > longest else "")


def plain_lines(text: str, longest: int) -> str:
    """The last `longest` characters with their line breaks, every line printable."""
    lines = text[-longest:].split("\n")
    return "\n".join(plain(line.rstrip("\r"), longest) for line in lines)


def quoted(text: str, longest: int) -> str:
    """In single quotation marks, which nothing inside can close."""
    escaped = plain(text, longest).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def own_words(text: str, longest: int) -> str:
    """A quotation with the mark that says whose words these are."""
    return MARK + quoted(text, longest)


def shortened(sentence: str, longest: int) -> str:
    """A sentence that may quote a node, cut to a length; a quotation that was cut open is closed again."""
    if len(sentence) <= longest:
        return sentence
    kept = sentence[:longest].rstrip("\\")
    return kept + CUT + ("'" if _is_open(kept) else "")


def _is_open(text: str) -> bool:
    """Whether a text ends within single quotation marks, as `quoted` sets them."""
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
