"""The commit marker: how long each ledger is, in a file apart from the database.

After each commit a line says of every cluster that it touched how many ledger entries it has now. A database
that has fewer has lost commits, however sound it looks: its log was damaged, or it was replaced. A database
that has more is in order, for a server may be killed before it writes the line.

The lines need no fsync of their own. One that is lost with the power says less than it could and never
something wrong.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flow_nexus_neural.engine.storage.state_dir import FILE_MODE, sync_directory, unavailable
from flow_nexus_neural.protocol.digest import canonical_json

log = logging.getLogger(__name__)

NAME = "COMMITS"
MAX_BYTES = 256 << 10
"""A longer file is written anew with one line a cluster."""

_CHECK_LENGTH = 16


@dataclass(frozen=True)
class Mark:
    """What is known of a cluster apart from the database.

    Attributes:
        entries: Ledger entries that were committed.
        lost: Entries that were committed once and are gone.
    """

    cluster_id: str
    name: str
    entries: int
    lost: int = 0

    def line(self) -> bytes:
        """As the file holds it: a check and a JSON object."""
        content = canonical_json(asdict(self))
        return _check(content) + b" " + content + b"\n"


@dataclass(frozen=True)
class Findings:
    """What the marker says of a database.

    Attributes:
        gone: Clusters of which the database knows nothing any more.
        older: Clusters of which it lost the last commits.
    """

    gone: Mapping[str, Mark]
    older: Mapping[str, Mark]


class CommitMarker:
    """The open file. Blocking; used by one thread at a time.

    Attributes:
        missing: There was no such file.
        damaged: Lines could not be read.
        marks: The last of each cluster.
    """

    def __init__(self, path: Path) -> None:
        """Read the file, or make it.

        Raises:
            StoreUnavailable: It cannot be read or written.
        """
        self._path = path
        self._descriptor: int | None = None
        self.missing = not path.exists()
        self.damaged = False
        self.marks: dict[str, Mark] = {}
        try:
            content = b"" if self.missing else path.read_bytes()
            whole = self._read(content)
            if not whole or self.missing or len(content) > MAX_BYTES:
                self._write_anew()
            else:
                self._open()
        except OSError as failure:
            raise unavailable(f"open {NAME}", failure) from failure

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def note(self, marks: Iterable[Mark]) -> None:
        """A commit is durable after which ledgers are this long.

        A disk that refuses costs nothing but the line, and the next one makes up for it.
        """
        self._append([self._later(mark) for mark in marks])

    def _append(self, added: list[Mark]) -> None:
        self.marks.update({mark.cluster_id: mark for mark in added})
        lines = b"".join(mark.line() for mark in added)
        try:
            if self._descriptor is None:
                self._write_anew()
            elif os.write(self._descriptor, lines) != len(lines):
                self.close()  # half a line: the file is written anew with the next one
        except OSError as failure:
            self.close()
            log.warning("%s could not be written: %s", NAME, failure.strerror or failure)

    def compare(self, lengths: Mapping[str, tuple[str | None, int]]) -> Findings:
        """Hold the database against the marker, and go on from what the database has.

        Args:
            lengths: Name and number of ledger entries of every cluster in the database.
        """
        gone = {name: mark for name, mark in self.marks.items() if name not in lengths}
        ahead = {
            cluster_id: replace(mark, entries=found, lost=mark.lost + mark.entries - found)
            for cluster_id, (_, found) in lengths.items()
            if (mark := self.marks.get(cluster_id)) is not None and mark.entries > found
        }
        behind = [
            Mark(cluster_id, name or "", found)
            for cluster_id, (name, found) in lengths.items()
            if cluster_id not in self.marks or self.marks[cluster_id].entries < found
        ]
        if ahead or behind:
            self._append([*ahead.values(), *map(self._later, behind)])
        older = {name: mark for name, mark in self.marks.items() if mark.lost and name in lengths}
        return Findings(gone, older)

    def _later(self, mark: Mark) -> Mark:
        """A mark with what the former one of its cluster knows; a ledger never becomes shorter."""
        former = self.marks.get(mark.cluster_id)
        if former is None:
            return mark
        entries = max(mark.entries, former.entries)
        return replace(former, name=mark.name or former.name, entries=entries)

    def _read(self, content: bytes) -> bool:
        """Take the lines in; returns whether there is nothing but whole ones.

        What follows the last line end is a line that a killed server did not finish.
        """
        marks, first_bad = marks_in(content)
        self.marks.update({mark.cluster_id: mark for mark in marks})
        self.damaged = first_bad is not None
        return not self.damaged and (not content or content.endswith(b"\n"))

    def _write_anew(self) -> None:
        self.close()
        fresh = self._path.with_name(f"{NAME}.new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
            file.write(b"".join(mark.line() for mark in self.marks.values()))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        sync_directory(self._path.parent)
        self._open()

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._path.chmod(FILE_MODE)


def marks_in(content: bytes) -> tuple[list[Mark], int | None]:
    """The last readable mark of each cluster, and the number of the first line that is not as it was written.

    What follows the last line end is a line that a killed server did not finish.
    """
    marks: dict[str, Mark] = {}
    first_bad: int | None = None
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        check, _, body = line.partition(b" ")
        if check != _check(body):
            first_bad = first_bad or number
            continue
        known = {name: json.loads(body).get(name, 0) for name in Mark.__dataclass_fields__}
        marks[known["cluster_id"]] = Mark(**known)
    return list(marks.values()), first_bad


def _check(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:_CHECK_LENGTH].encode()
