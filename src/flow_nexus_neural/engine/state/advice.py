"""What to do about nodes that cannot be asked, in words that are true for the state that each is in.

A node that failed on its own stays failed until it is replaced, or autonomy restarts it. One whose process
ended with its runtime is being started again by itself, and one that ended with the server is started by the
next call that needs it: to tell a caller to replace those would be to tell of work that is under way already.
"""

from collections.abc import Iterable

from flow_nexus_neural.engine.state.slots import Slot, SlotBook

NAMES_TOLD = 8
REPLACE = "with neural_node_deploy (same role, model and capabilities, no layers)"


def next_step(slots: Iterable[Slot], otherwise: str) -> str:
    """A hint for a call that found too few nodes among these slots.

    Args:
        slots: Those that would have done, whatever their state.
        otherwise: The hint where none of them is lost or on its way back.
    """
    missing = [slot for slot in slots if not slot.healthy]
    lost = _names(slot for slot in missing if slot.lost)
    arriving = _names(slot for slot in missing if slot.arriving)
    waiting = _names(s for s in missing if s.state == "recovering" and not s.arriving)
    steps = []
    if arriving:
        steps.append(f"wait for {arriving} with neural_cluster_status and call again")
    if waiting:
        steps.append(f"call again, which starts {waiting}")
    if lost:
        steps.append(f"replace {lost} {REPLACE}")
    return "; ".join(steps) or otherwise


def what_is_missing(slots: SlotBook, names: Iterable[str]) -> str:
    """Which of these members are lost, and what to do about all of them; to follow a clause."""
    names = list(names)
    there = [slots[name] for name in names if name in slots.names()]
    lost = [name for name in names if name not in slots.names() or slots[name].lost]
    step = next_step(there, f"see {', '.join(names[:NAMES_TOLD])} in neural_cluster_status")
    return (f"; lost: {', '.join(lost)}" if lost else "") + f". {step[:1].upper()}{step[1:]}"


def failure_warnings(slots: Iterable[Slot]) -> list[str]:
    """What status says of nodes that failed."""
    slots = list(slots)
    failed = [slot for slot in slots if slot.state == "failed"]
    warnings = []
    lost = _names(slot for slot in failed if slot.lost)
    if lost:
        warnings.append(f"{lost} failed; replace {REPLACE}")
    caught = _names(slot for slot in slots if slot.state == "quarantined")
    if caught:
        warnings.append(f"{caught} quarantined, see last_error; replace {REPLACE}")
    given_up = _names(slot for slot in slots if slot.state == "failed_permanently")
    if given_up:
        warnings.append(
            f"{given_up} failed too often to be restarted, see last_error; replace {REPLACE}"
        )
    arriving = _names(slot for slot in failed if slot.arriving)
    if arriving:
        warnings.append(f"{arriving} failed; a new process is being started, wait for it")
    return warnings


def missing_workers(paused: str | None, workers: Iterable[Slot]) -> str | None:
    """Which workers a running training does without and what becomes of them; None where it lacks none.

    Args:
        paused: Why autonomy lets it wait; None where it does not.
        workers: Those that own rows of it.
    """
    if paused is not None:
        return f"paused until there are workers: {paused}"
    missing = [slot for slot in workers if not slot.healthy]
    doubted = [slot for slot in missing if slot.state == "suspect"]
    suspect = _names(doubted)
    arriving = _names(s for s in missing if s.arriving and s not in doubted)
    lost = _names(s for s in missing if s.lost)
    told = []
    if suspect:
        told.append(f"{suspect} suspect")
    if arriving:
        told.append(f"{arriving} being started again")
    if lost:
        told.append(f"{lost} failed")
    return f"{' and '.join(told)}; rounds go on without" if told else None


def _names(slots: Iterable[Slot]) -> str:
    names = [slot.name for slot in slots]
    more = len(names) - NAMES_TOLD
    return ", ".join(names[:NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
