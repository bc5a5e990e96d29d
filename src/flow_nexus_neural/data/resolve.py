"""Finds the table that a caller names: inline data, a built-in name, or a path inside the data roots."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from flow_nexus_neural.data.bundled import NAMES as BUNDLED_NAMES
from flow_nexus_neural.data.bundled import load_bundled
from flow_nexus_neural.data.clients import by_client, say_that_they_are_clients, stem_of
from flow_nexus_neural.data.data_file import data_suffix
from flow_nexus_neural.data.directory import read_directory
from flow_nexus_neural.data.inline import JoinedLimits, stack, stack_clients, table_of
from flow_nexus_neural.data.inline_text import InlineText, inline_text
from flow_nexus_neural.data.json_text import check_inline_size, parse_text
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.missing_words import settled
from flow_nexus_neural.data.opening import DataDirectory, DataRoots, resolved_path
from flow_nexus_neural.data.readers.by_suffix import READERS, read_file
from flow_nexus_neural.data.readers.json_any import is_json_lines
from flow_nexus_neural.data.synthetic import GENERATORS, MARKET_NAMES
from flow_nexus_neural.data.table import Table, digest_of, is_plain_text
from flow_nexus_neural.errors import (
    DatasetNotFound,
    InvalidDataset,
    LimitExceeded,
    PathNotAllowed,
    SourceUnavailable,
)
from flow_nexus_neural.settings import Settings
from flow_nexus_neural.vocabulary import SourceKind

REMOTE_SCHEMES = (
    "hf", "s3", "gs", "az", "yfinance", "ccxt", "http", "https", "ftp", "kaggle", "openml",
)  # fmt: skip
BUILTIN_HINT = (
    "built-in names: "
    + ", ".join([*MARKET_NAMES, "synthetic:linear", "synthetic:xor", "synthetic:sine"])
    + ", "
    + ", ".join(f"sklearn:{name}" for name in BUNDLED_NAMES)
)
SYNTHETIC_MARKET = (
    "the data set is synthetic: results say nothing about real markets, whose next direction is far less"
    " predictable (AUC about 0.5)"
)
MAX_NAME = 1_024
MAX_GLOB_FILES = 1_000


@dataclass(frozen=True)
class Source:
    """A table and where it came from.

    Attributes:
        table: The columns as read.
        name: The name that the caller gave.
        kind: Where it was found.
        origin: Where it comes from, in one sentence.
        sha256: Of the file's bytes; of the columns for inline and built-in data.
        target: Name of the label column; None when the source does not name one.
        label_reach: Rows that the given label already looks ahead.
        synthetic: Whether it was generated.
        market: Whether it has the name of the built-in market data: then lags are derived where it has none.
        warnings: For the caller.
    """

    table: Table
    name: str
    kind: SourceKind
    origin: str
    sha256: str
    target: str | None = None
    label_reach: int = 0
    synthetic: bool = False
    market: bool = False
    warnings: list[str] = field(default_factory=list)


def resolve(
    dataset: str | Mapping[str, JsonValue] | list[JsonValue],
    settings: Settings,
    *,
    rows: int | None = None,
    seed: int | None = None,
) -> Source:
    """Find and read a data set.

    Args:
        dataset: Inline values, inline JSON text, a built-in name or a path, without option suffix.
        settings: Gives the data roots and the limit of rows.
        rows: Rows per symbol of a generator.
        seed: Seed of a generator.

    Raises:
        DatasetNotFound: If nothing has this name.
        PathNotAllowed: If a path leads out of the data roots.
        SourceUnavailable: If it would have to be downloaded.
        InvalidDataset: If what was found is no table.
        LimitExceeded: If it is too large.
    """
    if not isinstance(dataset, str):
        check_inline_size(dataset)
        return _inline(dataset, settings)
    given = inline_text(dataset)
    if given is not None:
        return _inline_text(given, settings)
    text = dataset.strip()
    prefix, mark, rest = text.partition(":")
    if mark and prefix.lower() in REMOTE_SCHEMES:
        raise SourceUnavailable(
            f"'{text[:80]}' would have to be downloaded, and nothing is downloaded",
            hint="save the data as CSV or NPZ in the data directory and pass the file's name",
        )
    if prefix == "sklearn":
        return _bundled(rest)
    if prefix in ("builtin", "synthetic") and rest in GENERATORS:
        return _generated(rest, text, settings, rows, seed)
    found = _read_paths(text, settings)
    if found is not None:
        return found
    if text in MARKET_NAMES:
        return _generated(text, text, settings, rows, seed)
    raise _not_found(text, settings)


def resolve_file(path: str, settings: Settings) -> Source:
    """Read rows to predict: a file, a glob or a directory below the data roots.

    Words such as `NA` stay as they stand there, and arrays of inputs need no labels.

    Raises:
        DatasetNotFound, PathNotAllowed, InvalidDataset, LimitExceeded: As `resolve`.
    """
    text = path.strip()
    prefix, mark, _ = text.partition(":")
    if mark and prefix.lower() in REMOTE_SCHEMES:
        raise SourceUnavailable(
            f"'{text[:80]}' would have to be downloaded, and nothing is downloaded",
            hint="save the file in the data directory and pass its name",
        )
    found = _read_paths(text, settings, to_learn=False)
    if found is None:
        raise _no_file(text, settings)
    return found


def _read_paths(text: str, settings: Settings, *, to_learn: bool = True) -> Source | None:
    """What a path names; None where there is nothing."""
    try:
        roots = DataRoots(settings.data_roots, labels_needed=to_learn)
        found = _find(text, roots)
        return _from_paths(text, found, roots, settings, to_learn=to_learn) if found else None
    except OSError as failure:
        raise InvalidDataset(
            f"'{text[:120]}' cannot be read: {type(failure).__name__}",
            hint="check that the server may read it",
        ) from None


def _no_file(text: str, settings: Settings) -> DatasetNotFound:
    return DatasetNotFound(
        f"no file or directory in {len(settings.data_roots)} data root(s) is called '{text[:120]}'",
        hint=f"put the file into {settings.data_root} (set by --data-dir), or start the server with"
        " --allow-path DIR",
    )


def _inline_text(text: str, settings: Settings) -> Source:
    """JSON, records line by line, or delimited text."""
    if text[:1] == "[" or (text[:1] == "{" and not is_json_lines(text.encode("utf-8", "replace"))):
        return _inline(parse_text(text, "inline data"), settings)
    file = InlineText(text, ".jsonl" if text[:1] == "{" else ".csv")
    return _inline_table(*read_file(file, settings.max_rows))


def _inline(value: object, settings: Settings) -> Source:
    return _inline_table(*table_of(value, "inline data", Limits(settings.max_rows)))


def _inline_table(table: Table, target: str | None) -> Source:
    table = settled(table)
    return Source(table, "inline", "inline", "inline data", digest_of(table), target)


def _bundled(name: str) -> Source:
    table, target, origin = load_bundled(name)
    return Source(table, f"sklearn:{name}", "builtin", origin, digest_of(table), target)


def _generated(
    key: str, name: str, settings: Settings, rows: int | None, seed: int | None
) -> Source:
    generator = GENERATORS[key]
    table = generator.table(rows, seed, settings.max_rows)
    market = generator.symbols > 1
    warnings = ["the data set is synthetic: results say nothing about real data"]
    if market:
        warnings = [SYNTHETIC_MARKET]
    return Source(
        table,
        name,
        "builtin",
        generator.source,
        digest_of(table),
        generator.target,
        label_reach=1 if market else 0,
        synthetic=True,
        market=market,
        warnings=warnings,
    )


def _not_found(text: str, settings: Settings) -> DatasetNotFound:
    return DatasetNotFound(
        f"no built-in data set and no file or directory in {len(settings.data_roots)} data root(s) is"
        f" called '{text[:120]}'",
        hint=f"put the file into {settings.data_root} (set by --data-dir), or start the server with"
        f" --allow-path DIR; {BUILTIN_HINT}",
    )


def _find(text: str, roots: DataRoots) -> list[Path]:
    """Paths that the text names, resolved and inside a root; empty when there is none."""
    wanted = _as_path(text)
    if any(mark in str(wanted) for mark in "*?["):
        return _find_glob(wanted, roots, text)
    if wanted.is_absolute():
        resolved = resolved_path(wanted)
        _check_root(resolved, roots, text)
        return [resolved] if _exists(resolved) else []
    for root in roots.paths:
        for candidate in (wanted, *_with_suffixes(wanted)):
            resolved = resolved_path(root / candidate)
            if _exists(resolved):
                _check_root(resolved, roots, text)
                return [resolved]
            if not resolved.is_relative_to(root) and ".." in candidate.parts:
                _check_root(resolved, roots, text)
    return []


def _as_path(text: str) -> Path:
    if not text or len(text) > MAX_NAME or "\0" in text or not is_plain_text(text):
        raise DatasetNotFound("the data set's name is empty or no usable path", hint=BUILTIN_HINT)
    if not text.startswith("file:"):
        return Path(text)
    url = urlsplit(text)
    if url.netloc not in ("", "localhost"):
        raise SourceUnavailable(
            f"'{text[:80]}' names another host", hint="file:// URLs name files on this machine"
        )
    return Path(unquote(url.path))


def _with_suffixes(wanted: Path) -> list[Path]:
    """For a name without a suffix: the file names with each suffix that can be read."""
    if not wanted.name or wanted.suffix:
        return []
    return [wanted.with_name(wanted.name + suffix) for suffix in READERS]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _check_root(resolved: Path, roots: DataRoots, text: str) -> None:
    if not roots.holds(resolved):
        raise PathNotAllowed(
            f"'{text[:120]}' lies, or leads by a link, outside the data roots",
            hint=f"move it into the data directory {roots.paths[0]} (set by --data-dir), or start the server"
            " with --allow-path DIR",
        )


def _find_glob(wanted: Path, roots: DataRoots, text: str) -> list[Path]:
    if ".." in wanted.parts or "**" in str(wanted):
        raise PathNotAllowed(
            f"glob '{text[:120]}' holds '..' or '**'",
            hint="name files below a data root, one directory at a time",
        )
    for root in roots.paths:
        pattern = wanted
        if wanted.is_absolute():
            if not wanted.is_relative_to(root):
                continue
            pattern = wanted.relative_to(root)
        paths: set[Path] = set()
        for path in root.glob(str(pattern)):
            paths.add(path.resolve())
            if len(paths) > MAX_GLOB_FILES:
                raise LimitExceeded(
                    f"glob '{text[:120]}' matches more than {MAX_GLOB_FILES} files",
                    hint="make the pattern narrower",
                )
        files = sorted(path for path in paths if data_suffix(path.name) in READERS)
        for path in files:
            _check_root(path, roots, text)
        if files:
            return files
    if wanted.is_absolute() and not roots.holds(wanted):
        _check_root(wanted, roots, text)
    return []


def _from_paths(
    text: str, paths: list[Path], roots: DataRoots, settings: Settings, *, to_learn: bool
) -> Source:
    first = paths[0]
    name = Path(text).name if len(paths) == 1 else text
    limits = Limits(settings.max_rows)
    joined = JoinedLimits(f"'{text[:120]}'", limits)
    parts: list[Table] = []
    digests: list[tuple[str, str]] = []
    target: str | None = None
    for path in paths:
        with roots.open(path) as opened:
            if isinstance(opened, DataDirectory) and len(paths) == 1:
                return _directory(opened, name, limits, to_learn=to_learn)
            if isinstance(opened, DataDirectory):
                raise InvalidDataset(
                    f"'{opened.name}' is not a regular file", hint="pass a file or a directory"
                )
            part, label = read_file(opened, settings.max_rows)
            digests.append((opened.name, opened.sha256))
        if len(paths) > 1:
            joined.add(part)
        target = label if not parts else target
        parts.append(part)
    table, origin = parts[0], f"file {first.name}"
    if len(parts) > 1:
        table, origin = _joined(text, paths, parts, limits)
    table = settled(table) if to_learn else table
    market = len(paths) == 1 and first.name.split(".")[0] in MARKET_NAMES
    return Source(
        table,
        name,
        "file",
        origin,
        joint_digest(digests),
        target,
        market=market,
    )


def _joined(text: str, paths: list[Path], parts: list[Table], limits: Limits) -> tuple[Table, str]:
    """The tables of several files as one, divided by client where the files say so."""
    subject = f"'{text[:120]}'"
    clients = dict(pair for part in parts for pair in by_client(part))
    if say_that_they_are_clients(paths) and not clients:
        clients = {stem_of(path.name): part for path, part in zip(paths, parts, strict=True)}
    if not clients:
        return stack(
            parts, [path.name for path in paths], subject
        ), f"{len(paths)} files in name order"
    if len(clients) != sum(len(part.clients) or 1 for part in parts):
        raise InvalidDataset(
            f"{subject}: a client occurs in two files, or only some files have clients",
            hint="give every client a name of its own",
        )
    return stack_clients(
        clients, subject, limits
    ), f"{len(paths)} files with {len(clients)} clients"


def _directory(directory: DataDirectory, name: str, limits: Limits, *, to_learn: bool) -> Source:
    table, target, digests = read_directory(directory, limits)
    table = settled(table) if to_learn else table
    origin = f"directory of {len(digests)} files"
    return Source(table, name, "directory", origin, joint_digest(digests), target)


def joint_digest(digests: list[tuple[str, str]]) -> str:
    """The sha256 of one file, or that of the list of names and digests of several."""
    if len(digests) == 1:
        return digests[0][1]
    lines = (f"{name} {digest}\n" for name, digest in digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
