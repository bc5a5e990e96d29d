"""Replace what stands between two markers of a document."""

from pathlib import Path


def replace_between(document: Path, name: str, text: str, *, check: bool) -> None:
    """Write `text` between `<!-- name:begin -->` and `<!-- name:end -->`.

    With `check` nothing is written.

    Raises:
        SystemExit: If a marker is missing, or with `check` if the document says something else.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    whole = document.read_text()
    before, found_begin, rest = whole.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"{document.name} lacks the markers {begin} and {end}")
    updated = f"{before}{begin}\n{text}\n{end}{after}"
    if updated == whole:
        return
    if check:
        raise SystemExit(f"the part '{name}' of {document.name} is stale")
    document.write_text(updated)
