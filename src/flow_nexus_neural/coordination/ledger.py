"""An append-only hash chain of the versions and other events that a cluster has committed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from flow_nexus_neural.errors import UpdateRejected
from flow_nexus_neural.protocol.digest import canonical_json

Entry = dict[str, JsonValue]

GENESIS = "0" * 64
"""`prev_sha` of the first entry."""

_DOMAIN = b"fnn-ledger-1\0"
_OWN = ("prev_sha", "entry_sha")


@dataclass(frozen=True, slots=True)
class FirstBad:
    """The first invalid entry of a chain: its `seq`, the wrong field, and its expected and actual values."""

    seq: int
    field: str
    expected: JsonValue
    found: JsonValue


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """Result of verifying a chain; `entries` counts the entries before the first invalid one."""

    ok: bool
    entries: int
    first_bad: FirstBad | None


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain, to which the next entry is appended.

    Attributes:
        prev_sha: sha256 of the last entry, or 64 zeros for an empty chain.
        next_seq: Sequence number of the next entry; numbers start at 0 and have no gaps.
        versions: Current version of each cohort that has one.
    """

    prev_sha: str
    next_seq: int
    versions: Mapping[str, int]

    def version(self, cohort: str) -> int:
        """The cohort's current version; 0 before its first commit."""
        return self.versions.get(cohort, 0)


def make_entry(prev_sha: str, fields: Mapping[str, JsonValue]) -> Entry:
    """Create an entry from the given fields, with `prev_sha` and `entry_sha` added.

    `entry_sha` is the sha256 of a domain tag, the 32 bytes of `prev_sha` and the canonical JSON of all fields
    but itself. Non-finite numbers are stored as null, so that the entry is equal to what is read back.

    Args:
        prev_sha: `entry_sha` of the entry before, `GENESIS` for the first.
        fields: At least `seq` and `kind`; a `version` entry also has `cohort`, `parent`, `version`.

    Raises:
        ValueError: If the fields contain `prev_sha` or `entry_sha`, or `prev_sha` is not a sha256.
    """
    if any(name in fields for name in _OWN):
        raise ValueError("prev_sha and entry_sha are computed, not given")
    entry: Entry = json.loads(canonical_json({**fields, "prev_sha": prev_sha}))
    entry["entry_sha"] = _seal(prev_sha, entry)
    return entry


def head(entries: Sequence[Mapping[str, JsonValue]]) -> Head:
    """The end of a chain. Does not verify the entries."""
    versions: dict[str, int] = {}
    for entry in entries:
        cohort, version = entry.get("cohort"), entry.get("version")
        if entry.get("kind") == "version" and isinstance(cohort, str) and isinstance(version, int):
            versions[cohort] = version
    last = entries[-1]["entry_sha"] if entries else GENESIS
    return Head(prev_sha=str(last), next_seq=len(entries), versions=versions)


def check_commit(at: Head, cohort: str, parent: int) -> int:
    """Check that `parent` is the cohort's current version, and return the number of the next version.

    Raises:
        UpdateRejected: If the parent is no longer the cohort's current version.
    """
    current = at.version(cohort)
    if parent != current:
        raise UpdateRejected(
            f"a version of cohort {cohort} based on {parent} came after version {current}",
            hint="start the round again from the current version",
            details={"cohort": cohort, "parent": parent, "current": current},
        )
    return current + 1


def verify_chain(entries: Sequence[Mapping[str, JsonValue]]) -> ChainVerdict:
    """Check all hashes, links and sequence numbers, and that each cohort's versions are consecutive.

    This detects every change of an entry, but not entries missing at the end of the chain.
    """
    versions: dict[str, int] = {}
    prev_sha = GENESIS
    for position, entry in enumerate(entries):
        bad = _first_bad(entry, position, prev_sha, versions)
        if bad is not None:
            return ChainVerdict(ok=False, entries=position, first_bad=bad)
        prev_sha = str(entry["entry_sha"])
    return ChainVerdict(ok=True, entries=len(entries), first_bad=None)


def _first_bad(
    entry: Mapping[str, JsonValue], position: int, prev_sha: str, versions: dict[str, int]
) -> FirstBad | None:
    checks: list[tuple[str, Any]] = [("seq", position), ("prev_sha", prev_sha)]
    checks.append(("entry_sha", _seal(prev_sha, entry)))
    if entry.get("kind") == "version":
        current = versions.get(str(entry.get("cohort")), 0)
        checks += [("parent", current), ("version", current + 1)]
        versions[str(entry.get("cohort"))] = current + 1
    for field, expected in checks:
        found = entry.get(field)
        # Types too: in Python True == 1 and 1.0 == 1.
        if type(found) is not type(expected) or found != expected:
            return FirstBad(seq=position, field=field, expected=expected, found=found)
    return None


def _seal(prev_sha: str, entry: Mapping[str, JsonValue]) -> str:
    link = bytes.fromhex(prev_sha)
    if len(link) != 32:
        raise ValueError(f"prev_sha {prev_sha!r} is no sha256")
    sealed = {name: value for name, value in entry.items() if name != "entry_sha"}
    return hashlib.sha256(_DOMAIN + link + canonical_json(sealed)).hexdigest()
