"""The manifest of an exported folder: every file with its size and sha256, so that no edit goes unnoticed.

It tells an edited or damaged export, not a forged one: whoever edits a file can write the manifest anew. The
sha256 of the manifest, which the export's reply gives, tells that too.
"""

import hashlib
import json
import re
from typing import Final

from flow_nexus_neural.artifacts.export_format import Files
from flow_nexus_neural.errors import InvalidDataset, StoreCorrupt
from flow_nexus_neural.protocol.digest import canonical_json

MANIFEST: Final = "manifest.json"
KIND: Final = "flow-nexus-neural model"
MAX_FILES: Final = 64
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
EXPORT_AGAIN: Final = "export the model again, and leave the folder as it is"


def with_manifest(files: Files) -> dict[str, bytes]:
    """The files and the manifest that names each of them."""
    lines = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }
    manifest = {"format": KIND, "format_version": 1, "files": lines}
    return {**files, MANIFEST: json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"}


def manifest_digest(files: Files) -> str:
    """sha256 of the manifest, by which an export is told from every other."""
    return hashlib.sha256(files[MANIFEST]).hexdigest()


def listed(manifest: bytes) -> dict[str, int]:
    """Sizes of the files that a manifest names, by name.

    Raises:
        InvalidDataset: It is no manifest of an exported model.
    """
    return {name: size for name, (size, _) in _lines(manifest).items()}


def check(files: Files) -> None:
    """Raises `InvalidDataset` where a file is missing, added or changed since it was exported."""
    lines = _lines(files[MANIFEST])
    for name, (size, sha256) in lines.items():
        content = files.get(name)
        if content is None:
            raise InvalidDataset(f"'{name}' is missing from the export", hint=EXPORT_AGAIN)
        found = hashlib.sha256(content).hexdigest()
        if len(content) != size or found != sha256:
            raise InvalidDataset(
                f"'{name}' was changed after the export: its sha256 is {found[:12]}, the manifest says"
                f" {sha256[:12]}",
                hint=EXPORT_AGAIN,
            )
    extra = sorted(set(files) - {*lines, MANIFEST})
    if extra:
        raise InvalidDataset(f"'{extra[0]}' is not part of the export", hint="remove it")


def check_read_back(files: Files) -> None:
    """Raises `StoreCorrupt` where files that were just written are not those that were made."""
    try:
        check(files)
    except (InvalidDataset, KeyError) as failure:
        raise StoreCorrupt(f"the export cannot be read back: {failure}") from failure


def _lines(manifest: bytes) -> dict[str, tuple[int, str]]:
    try:
        value = json.loads(manifest)
        kind, number, files = value["format"], value["format_version"], value["files"]
        lines = {str(name): (one["bytes"], one["sha256"]) for name, one in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise InvalidDataset(
            f"{MANIFEST} is no manifest of an exported model", hint=EXPORT_AGAIN
        ) from failure
    if kind != KIND or number != 1:
        raise InvalidDataset(
            f"{MANIFEST} is of {str(kind)[:60]!r} {str(number)[:20]}, not of {KIND!r} 1",
            hint="use the version of this program that wrote it",
        )
    sound = all(
        _NAME.fullmatch(name) and isinstance(size, int) and size >= 0 and isinstance(sha, str)
        for name, (size, sha) in lines.items()
    )
    if not sound or not lines or len(lines) > MAX_FILES or MANIFEST in lines:
        raise InvalidDataset(f"{MANIFEST} names files that no export has", hint=EXPORT_AGAIN)
    return lines


def config_json(value: object) -> bytes:
    """JSON with sorted keys, the same bytes for equal values; NaN and infinities are null."""
    plain = json.loads(canonical_json(value))  # type: ignore[arg-type]  # JSON by its makers
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
