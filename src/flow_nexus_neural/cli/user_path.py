"""A path of the command line, as the user means it: from the current directory, with `~`, `..` and links."""

import os
from pathlib import Path


def user_path(text: str) -> Path:
    """The absolute path of a file or folder that may not be there yet; a link in its own place stays one."""
    place = Path(text).expanduser()
    if place.name in ("", ".."):
        return place.resolve()
    return Path(os.path.realpath(place.parent), place.name)
