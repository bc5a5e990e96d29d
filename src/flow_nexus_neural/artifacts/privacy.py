"""How private the training of an exported model was: as JSON, in one line, and as a table."""

import json
from typing import Any, Final

from flow_nexus_neural.artifacts.model import ExportedModel
from flow_nexus_neural.coordination.privacy.lineage import DataPrivacy, TrainingPrivacy

KEY: Final = "privacy"
"""Of an entry in the metadata of a format."""
COLUMNS: Final = (
    "training",
    "mode",
    "epsilon",
    "delta",
    "noise multiplier",
    "clip norm",
    "rounds",
    "noised sums",
    "budget",
)
NOT_RECORDED: Final = "not recorded"
BARE: Final = "none: training rows may be told from the model"


def as_json(model: ExportedModel) -> dict[str, Any] | None:
    """Everything that is known; None where it was not recorded."""
    return None if model.privacy is None else model.privacy.model_dump(mode="json")


def as_text(model: ExportedModel) -> str:
    """The same as JSON in one line, for metadata that hold text; `null` where it was not recorded."""
    return json.dumps(as_json(model), sort_keys=True, allow_nan=False)


def in_one_line(model: ExportedModel) -> str:
    """For a reader."""
    known = model.privacy
    if known is None:
        return NOT_RECORDED
    if known.mode == "none":
        return BARE
    if known.epsilon is None:
        return f"{known.mode}: no epsilon holds for all of its training data"
    return f"{known.mode}, epsilon {known.epsilon:.6g} at delta {known.delta:g}"


def table(model: ExportedModel) -> list[str]:
    """Markdown for a model card."""
    known = model.privacy
    lines = [f"- privacy: {in_one_line(model)}"]
    if known is None or not known.trainings:
        return lines
    lines += [f"- {_of_data(one)}" for one in known.data_sets]
    lines += [
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + " --- |" * len(COLUMNS),
        *(_row(one) for one in known.trainings),
    ]
    for one in {one.protected: one for one in known.trainings if one.mode != "none"}.values():
        lines += [
            "",
            f"How {one.mode} is counted:",
            "",
            f"- protected: {one.unit}",
            f"- neighbours: {one.relation}",
            f"- accountant: {one.accountant}",
            f"- sampling: {one.sampling}",
            f"- conversion: {one.conversion}",
        ]
    return lines


def _of_data(one: DataPrivacy) -> str:
    of = f"`{one.data[0][:80]}`" if one.data else "a data set without identity"
    trainings = f"{len(one.trainings)} training{'s' if len(one.trainings) != 1 else ''}"
    if one.mode == "mixed":
        return f"data {of}: {trainings} that protect workers and clients of the data: no common epsilon"
    if one.epsilon is None:
        return f"data {of}: {trainings}, one of them without privacy: no epsilon"
    return f"data {of}: {trainings}, together epsilon {one.epsilon:.6g} at delta {one.delta:g}"


def _row(one: TrainingPrivacy) -> str:
    limits = (
        ("target", one.target_epsilon),
        ("at most", one.max_epsilon),
        ("spent on these data", one.epsilon_of_data),
    )
    budget = ", ".join(f"{word} {value:.6g}" for word, value in limits if value is not None)
    numbers = (one.epsilon, one.delta, one.noise_multiplier, one.clip_norm)
    shown = " | ".join("-" if number is None else f"{number:.6g}" for number in numbers)
    masked = ", masked" if one.secure_aggregation else ""
    sums = "-" if one.sums is None else one.sums
    return (
        f"| `{one.training_id}` | {one.mode}{masked} | {shown} | {one.rounds} | {sums} |"
        f" {budget or '-'} |"
    )
