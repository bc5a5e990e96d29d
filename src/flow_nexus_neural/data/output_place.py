"""Where a caller may have files written: below the write roots, and never through a link.

A directory is opened from its root, component by component, and everything after that names entries of its
descriptor.
"""

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_nexus_neural.data.opening import CAN_WALK, resolved_path, walk
from flow_nexus_neural.data.table import is_plain_text
from flow_nexus_neural.errors import (
    InvalidArguments,
    InvalidDataset,
    NotAvailable,
    PathNotAllowed,
    StoreUnavailable,
)

MAX_NAME = 200
MAX_PATH = 1_024
FOLDER_ENDS = ("/", "/.")


@dataclass(frozen=True)
class OutputPlace:
    """Where a file may be written.

    Attributes:
        root: The write root, resolved.
        folders: Directories below it.
        name: Of the file.
        argument: By which the caller named it, for errors.
        notes_dir: State directory in which is noted what is being written, and what was.
        by_command: The user named its root to a command, which the server does not know.
    """

    root: Path
    folders: tuple[str, ...]
    name: str
    argument: str = "output_path"
    notes_dir: Path | None = None
    by_command: bool = False

    @property
    def path(self) -> Path:
        """The whole path."""
        return self.root.joinpath(*self.folders, self.name)

    @property
    def suffix(self) -> str:
        """What decides the format, in lower case."""
        return self.path.suffix.lower()


def output_place(
    text: str,
    roots: Sequence[Path],
    state_dir: Path,
    argument: str = "output_path",
    *,
    folder: bool = False,
    notes_dir: Path | None = None,
) -> OutputPlace:
    """Check where a caller wants a file, or a folder.

    Args:
        text: A path; a relative one lies in the first root.
        roots: Directories below which may be written.
        state_dir: The server's own directory, into which nothing is written but below a root inside it.
        argument: By which the caller named it, for errors.
        folder: Whether a folder is to be written; only then the path may end in a slash.
        notes_dir: The state directory of which `state_dir` is a copy, made by a command; None for no copy.

    Raises:
        PathNotAllowed: It lies outside the roots or in the state directory, or is hidden or leads upwards.
        InvalidArguments: It is no usable name.
        NotAvailable: This system cannot open entries of an opened directory.
    """
    if not CAN_WALK or sys.platform == "win32":
        raise NotAvailable(
            "files cannot be written safely on this system", hint=f"leave {argument} out"
        )
    text = text.strip().removeprefix("file://")
    path = _named(text, argument, folder=folder)
    if ".." in path.parts:
        raise PathNotAllowed(f"{argument} '{text[:120]}' holds '..'", hint=_where(roots, state_dir))
    resolved = [root.resolve() for root in roots]
    parent = resolved_path(resolved[0] / path.parent)
    inside = [root for root in resolved if parent.is_relative_to(root)]
    root = max(inside, key=lambda root: len(root.parts), default=None)
    own = state_dir.resolve()
    below = root is not None and root != own and root.is_relative_to(own)
    if parent.is_relative_to(own) and not below:  # said first: --allow-path would not help
        raise PathNotAllowed(
            f"{argument} '{text[:120]}' lies in the state directory", hint=_where(roots, state_dir)
        )
    if root is None:
        raise PathNotAllowed(
            f"{argument} '{text[:120]}' lies, or leads by a link, outside the directories into which"
            " files may be written",
            hint=_where(roots, state_dir),
        )
    folders = parent.relative_to(root).parts
    if any(part.startswith(".") for part in (*folders, path.name)):
        raise PathNotAllowed(
            f"{argument} '{text[:120]}' is hidden", hint="give a name without a dot in front"
        )
    noted = own if notes_dir is None else notes_dir.resolve()
    return OutputPlace(root, folders, path.name, argument, noted, by_command=noted != own)


def _named(text: str, argument: str, *, folder: bool) -> Path:
    """The path that a text names. Raises `InvalidArguments` where nothing could have such a name."""
    path = Path(text)
    usable = text and text.isprintable() and is_plain_text(text)
    if not usable or not path.name:
        raise InvalidArguments(
            f"{argument} is no usable name of a file", hint="give a name of printable characters"
        )
    if not folder and text.endswith(FOLDER_ENDS):
        raise InvalidArguments(
            f"{argument} '{text[:120]}' names a folder, and a file is to be written",
            hint=f"give the name of a file, like {path}",
        )
    if len(text) > MAX_PATH or len(path.name.encode()) > MAX_NAME:
        raise InvalidArguments(
            f"{argument} is too long: a name may have {MAX_NAME} bytes, a path {MAX_PATH} characters",
            hint="give a shorter name",
        )
    return path


def _where(roots: Sequence[Path], state_dir: Path) -> str:
    """Where it would be allowed, which it is not below a root that is the state directory itself."""
    own = state_dir.resolve()
    usable = [root for root in roots if root.resolve() != own]
    if not usable:
        return "start the server with --allow-path DIR, a directory apart from its state directory"
    by = "set by --data-dir" if usable[0] == roots[0] else "given by --allow-path"
    more = f", or below {len(usable) - 1} more (--allow-path)" if len(usable) > 1 else ""
    return f"write below {usable[0]} ({by}){more}"


def open_directory(place: OutputPlace) -> int:
    """A descriptor of the directory in which something is to be written.

    Raises:
        InvalidArguments: There is none.
        PathNotAllowed: A link took its place.
        StoreUnavailable: It cannot be opened.
    """
    try:
        descriptor = walk(place.root, place.folders)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidArguments(
            f"{place.argument}: there is no directory '{'/'.join(place.folders) or place.root.name}'",
            hint="make it first, or write into another one",
        ) from None
    except InvalidDataset as refusal:
        raise PathNotAllowed(f"{place.argument}: {refusal.message}", hint=refusal.hint) from None
    except OSError as failure:
        raise StoreUnavailable(
            f"{place.argument}: its directory cannot be opened: {failure.strerror}",
            hint="check that the server may write there",
        ) from failure
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidArguments(
            f"{place.argument}: '{place.folders[-1]}' is no directory",
            hint="write into a directory",
        )
    return descriptor
