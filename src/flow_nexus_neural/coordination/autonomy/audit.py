"""The chain of autonomy's decisions: each entry is sealed together with the one before.

Only the newest entries of a cluster are kept, so a chain may begin anywhere; what is left of it is complete.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import GENESIS, ChainVerdict, FirstBad
from flow_nexus_neural.protocol.digest import canonical_json

AuditEntry = dict[str, JsonValue]

KEPT = 1000
"""Entries that are kept of a cluster."""

INTENDED = "intended"
"""What an entry decides that is written before an action; the one that follows it names it in `INTENT`."""
INTENT = "intent"

_DOMAIN = b"fnn-audit-1\0"


def sealed(prev_sha: str, fields: Mapping[str, JsonValue]) -> AuditEntry:
    """An entry with `prev_sha` and its own `sha`: sha256 of a domain tag, the link and the canonical JSON.

    Args:
        prev_sha: `sha` of the entry before; `GENESIS` for the first.
        fields: At least `seq`. Non-finite numbers are stored as null.
    """
    entry: AuditEntry = json.loads(canonical_json({**fields, "prev_sha": prev_sha}))
    entry["sha"] = _seal(entry)
    return entry


def verify_audit(entries: Sequence[Mapping[str, JsonValue]]) -> ChainVerdict:
    """Check every seal and link and that no entry is missing between the first and the last.

    A change of any byte of an entry is found. Entries cut off at either end are not, apart from a first entry
    with the number 0, which has to be linked to `GENESIS`. `first_bad.seq` counts as the entries do.
    """
    prev_sha: JsonValue = None
    number: JsonValue = None
    for position, entry in enumerate(entries):
        if number is None:
            number = entry.get("seq")
            prev_sha = GENESIS if number == 0 else entry.get("prev_sha")
        checks = (("seq", number), ("prev_sha", prev_sha), ("sha", _seal(entry)))
        for field, expected in checks:
            found = entry.get(field)
            if type(found) is not type(expected) or found != expected:
                seq = number if isinstance(number, int) else position
                return ChainVerdict(
                    ok=False, entries=position, first_bad=FirstBad(seq, field, expected, found)
                )
        prev_sha = entry["sha"]
        number = number + 1 if isinstance(number, int) else None
    return ChainVerdict(ok=True, entries=len(entries), first_bad=None)


def _seal(entry: Mapping[str, JsonValue]) -> str:
    named = {name: value for name, value in entry.items() if name != "sha"}
    return hashlib.sha256(_DOMAIN + canonical_json(named)).hexdigest()
