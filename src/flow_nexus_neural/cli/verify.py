"""`flow-nexus-neural verify` and `backup`: is everything as it was written, and a copy of all of it.

Both look at a copy of the journal, so that they work while a server has the state directory, and change
nothing there.
"""

import sys
from pathlib import Path

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.engine.storage.backup import back_up
from flow_nexus_neural.engine.storage.snapshot import JOURNAL, copy_state_dir, scratch_for
from flow_nexus_neural.engine.storage.state_dir import holder
from flow_nexus_neural.engine.storage.verification import Damage, Verification, verify
from flow_nexus_neural.errors import StoreError
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.settings import Settings

TRIES = 5
SHOWN = 50


def verify_state(settings: Settings) -> int:
    """Check the state directory and say what is damaged, the first first.

    Returns:
        0 if everything is as it was written, 1 if not.
    """
    configure_logging(settings)
    found = _verified(settings.state_dir)
    if found.ok:
        sys.stdout.write(
            f"ok: {found.clusters} clusters, {found.entries} ledger entries, {found.files} files with"
            f" {found.nbytes} bytes in {settings.state_dir}\n{_of_decisions(found)}"
        )
        return 0
    lines = [
        f"damaged: {len(found.damages)} in {settings.state_dir}; the first bad one is on the next line"
    ]
    lines += [str(damage) for damage in found.damages[:SHOWN]]
    if len(found.damages) > SHOWN:
        lines.append(f"and {len(found.damages) - SHOWN} more")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1


def _of_decisions(found: Verification) -> str:
    """What was found of autonomy's decisions; nothing where there are none."""
    lines = ""
    if found.decisions:
        lines = (
            f"{found.decisions} decisions of autonomy, derived again from what they were made on\n"
        )
    if found.not_replayed:
        lines += (
            f"{found.not_replayed} decisions cannot be derived again: an earlier version recorded less or"
            " decided by other rules, or the beginning of a look is no longer kept\n"
        )
    return lines


def back_up_state(settings: Settings, target: Path) -> int:
    """Copy the state directory, also while a server writes into it.

    Returns:
        0, or 1 after an error; then nothing is left of the copy.
    """
    configure_logging(settings)
    try:
        copied = back_up(settings.state_dir, target)
    except Exception as failure:  # noqa: BLE001 - the command's boundary: every failure is worded
        sys.stderr.write(f"{PROGRAM}: {error_text(known_error(failure, subject='backup'))}\n")
        return 1
    sys.stdout.write(
        f"copied {copied.files} files, {copied.nbytes} bytes, to {target}: serve it with --state-dir."
        " Data files in data/ are not part of it\n"
    )
    return 0


def _verified(state_dir: Path) -> Verification:
    """What a check of a copy finds; where a server commits fast, a file may vanish before it is looked at."""
    for _ in range(TRIES - 1):
        found = _verified_once(state_dir)
        if found.ok or holder(state_dir) is None:
            return found
    return _verified_once(state_dir)


def _verified_once(state_dir: Path) -> Verification:
    if not (state_dir / JOURNAL).is_file():
        return verify(state_dir)
    with scratch_for(state_dir, f"{PROGRAM}-verify-") as scratch:
        try:
            copy_state_dir(state_dir, scratch)
        except StoreError as failure:
            damage = Damage(None, None, JOURNAL, "a whole database", failure.message)
            return Verification(damages=[damage])
        return verify(scratch)
