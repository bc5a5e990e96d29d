"""Writes one new folder of files below the write roots: whole and durable under its name, or not at all.

It grows under a temporary name beside its place. One that replaces another changes places with it in one step
where the system offers that (Linux), so that there is an old folder or a new one at every moment.
"""

import ctypes
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from flow_nexus_neural.data.output_place import OutputPlace, open_directory
from flow_nexus_neural.data.unfinished import note, note_over, sweep, taken, temporary_name
from flow_nexus_neural.errors import (
    InvalidArguments,
    InvalidDataset,
    PathNotAllowed,
    StoreUnavailable,
)

FOLDER_MODE, FILE_MODE = 0o700, 0o600
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_TRIES = 3
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
MAX_INDEX_BYTES = 1 << 20

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Former:
    """By what a folder is known that may be replaced.

    Attributes:
        index: Name of its file that names the others.
        listed: Those names from the content of the index; raises `InvalidDataset` where it is another's.
    """

    index: str
    listed: Callable[[bytes], Collection[str]]


def write_folder(
    place: OutputPlace,
    files: Files,
    *,
    overwrite: bool,
    former: Former,
    checked: Callable[[Files], None],
) -> None:
    """Write a folder. Blocking.

    Args:
        place: Where it goes; the folder around it exists.
        files: Content by name, without folders.
        overwrite: Whether it may replace a folder of this kind that holds no other files than its own.
        former: By what such a folder is known; nothing else is replaced.
        checked: Called with what was read back, before the folder gets its name; what it raises is passed on.

    Raises:
        InvalidArguments: There is no directory for it, or the name is taken and must stay.
        PathNotAllowed: What has the name is no folder of this kind, or holds something else besides.
        StoreUnavailable: The disk refuses. Nothing is left.
    """
    parent = open_directory(place)
    temporary, noted = "", None
    try:
        _check_name(place, parent, former, overwrite=overwrite)
        sweep(parent)
        noted = note(place)
        temporary, folder = _begin(parent, place.name)
        try:
            for name, content in files.items():
                _write(folder, name, content)
            checked({name: _read(folder, name) for name in files})
            os.fsync(folder)
            _check_name(place, parent, former, overwrite=overwrite)
            _put_in_place(parent, temporary, place.name)
            os.fsync(parent)
        finally:
            os.close(folder)
    except OSError as failure:
        if failure.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise _exists(place) from None
        raise StoreUnavailable(
            f"could not write '{place.name}': {failure.strerror or failure}",
            hint=f"make room or give another {place.argument}, then call again",
        ) from failure
    finally:
        if temporary:  # what is left under it was not finished, or is the folder that was replaced
            _remove(parent, temporary)
        note_over(noted)
        os.close(parent)


def _check_name(place: OutputPlace, parent: int, former: Former, *, overwrite: bool) -> None:
    """Of what may never be replaced that is said, so that nobody tries it with overwrite."""
    try:
        found = os.stat(place.name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise PathNotAllowed(f"'{place.name}' is there and is no folder", hint="give another name")
    folder = os.open(place.name, _FOLDER, dir_fd=parent)
    try:
        _check_former(place, folder, former)
    finally:
        os.close(folder)
    if not overwrite:
        raise _exists(place)


def _check_former(place: OutputPlace, folder: int, former: Former) -> None:
    """Raises `PathNotAllowed` where a folder is of another kind, or holds what its index does not name."""
    names = set(os.listdir(folder))
    if former.index not in names:
        raise _not_ours(place, f"holds no '{former.index}'")
    try:
        known = {former.index, *former.listed(_index(folder, former.index))}
    except InvalidDataset as failure:
        raise _not_ours(place, f"was not written by an export: {failure.message}") from failure
    for name in sorted(names):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if name not in known or not stat.S_ISREG(found.st_mode):
            raise _not_ours(place, f"also holds '{name[:80]}', which no export wrote")


def _index(folder: int, name: str) -> bytes:
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise InvalidDataset(f"'{name}' is no file")
    descriptor = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder
    )
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_INDEX_BYTES)


def _not_ours(place: OutputPlace, why: str) -> PathNotAllowed:
    return PathNotAllowed(
        f"'{place.name}' is a folder that {why}: it is not replaced", hint="give another name"
    )


def _exists(place: OutputPlace) -> InvalidArguments:
    return InvalidArguments(
        f"'{place.name}' exists",
        hint=f"give another {place.argument}, or overwrite true to replace it",
    )


def _begin(parent: int, name: str) -> tuple[str, int]:
    """A new folder under a temporary name, and its descriptor, which holds a lock on it."""
    for _ in range(_TRIES):
        temporary = temporary_name(name)
        os.mkdir(temporary, FOLDER_MODE, dir_fd=parent)
        try:
            folder = os.open(temporary, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            continue  # somebody who sweeps took it for what a killed process left
        if taken(folder, temporary, parent):
            return temporary, folder
        os.close(folder)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _remove(parent: int, name: str) -> None:
    with suppress(OSError):
        shutil.rmtree(name, dir_fd=parent)


def _write(folder: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, FILE_MODE, dir_fd=folder)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _put_in_place(parent: int, temporary: str, name: str) -> None:
    """Give the new folder its name; the temporary one then holds the former folder, if there was one."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        # Over an empty folder that appeared meanwhile this succeeds, over any other it does not.
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        return
    if _exchanged(parent, temporary, name):
        return
    aside = f"{temporary}.old"
    os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
    try:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
        raise
    os.rename(aside, temporary, src_dir_fd=parent, dst_dir_fd=parent)


def _exchanged(parent: int, one: str, other: str) -> bool:
    """Let two entries change places in one step; False where the system or its file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    failed: int = rename(parent, os.fsencode(one), parent, os.fsencode(other), _EXCHANGE)
    if failed and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return not failed
