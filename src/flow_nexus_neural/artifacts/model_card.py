"""The model card of an exported folder, in the layout of model hubs; every number is the stored version's."""

from collections.abc import Mapping
from typing import Any, Final

from flow_nexus_neural.artifacts.model import ExportedModel
from flow_nexus_neural.artifacts.privacy import table
from flow_nexus_neural.data.example import positions_in_order

NOT_MEASURED: Final = "not measured"
_TASKS: Final = {
    "binary": "tabular-classification",
    "multiclass": "tabular-classification",
    "regression": "tabular-regression",
}
_METRICS: Final = (
    ("accuracy_interval", "accuracy, 95 % interval"),
    ("baseline_accuracy", "accuracy of the majority class"),
    ("balanced_accuracy", "balanced accuracy"),
    ("auc", "AUC"),
    ("brier", "Brier score"),
    ("log_loss", "log loss, nats"),
    ("ece", "expected calibration error"),
    ("directional_accuracy", "directional accuracy"),
    ("mae", "mean absolute error"),
    ("rmse", "root mean squared error"),
    ("r2", "R squared"),
    ("skill", "skill over the best baseline"),
)


def model_card(model: ExportedModel) -> str:
    """Markdown with a front matter that model hubs read. Nothing in it is estimated or made up."""
    stored = dict(model.stored)
    dataset, evaluation = _part(stored, "dataset"), _part(stored, "evaluation")
    lines = [
        "---",
        "library_name: flow-nexus-neural",
        f"pipeline_tag: {_TASKS[model.schema.task]}",
        "tags:",
        "- safetensors",
        "- distributed-training",
        "---",
        "",
        f"# {_plain(model.name)}, version {model.version}",
        "",
        f"Exported from cluster `{model.cluster_id}` of flow-nexus-neural.",
        f"sha256 over everything that shapes or describes its answers: `{model.sha}`.",
        "",
        "## What it does",
        "",
        f"- task: {model.schema.task}, target `{_plain(model.schema.target)}`",
        f"- classes: {_plain(_shown(model.schema.classes))}",
        f"- input: {_input(model)}",
        f"- serving nodes: {len(model.slots)}, networks: {len(model.networks)}",
        f"- combined by: the nodes' mean{_robust(model)}, then calibration where there is any",
        "",
        "| network | nodes | parameters | layers |",
        "| --- | --- | --- | --- |",
    ]
    for key, network in model.networks.items():
        nodes = ", ".join(slot for slot, own in model.slots.items() if own == key)
        kinds = ", ".join(layer.type for layer in network.plan.layers)
        lines.append(f"| `{key}` | {nodes} | {network.plan.n_params} | {kinds} |")
    lines += ["", "## Training data", "", *_data(dataset), "", "## Measured", ""]
    lines += [*_measured(stored, evaluation), "", "## Privacy", "", *table(model), "", *_USE]
    return "\n".join(lines) + "\n"


_USE: Final = (
    "## Use",
    "",
    "`neural_model_import` with the path of this folder makes a cluster that answers as this one did.",
    "",
    "- `model.safetensors`: float32 tensors, named by network and Keras-like layer",
    "- `config.json`: layers, the scaling of every column, calibration, thresholds, metrics, privacy",
    "- `manifest.json`: the sha256 of every file, so that an edited folder is refused",
)


def _data(dataset: Mapping[str, Any]) -> list[str]:
    split = _part(dataset, "split")
    made = " (synthetic: results say nothing about real data)" if dataset.get("synthetic") else ""
    return [
        f"- name: {_plain(_shown(dataset.get('name')))}{made}",
        f"- rows: {_shown(dataset.get('rows'))}; "
        + ", ".join(f"{part} {_shown(count)}" for part, count in split.items()),
        f"- sha256: {_shown(dataset.get('sha256'))}",
    ]


def _measured(stored: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    rows = evaluation.get("test_rows")
    told = [
        _measured_on(rows, refitted=bool(stored.get("evaluated")))
        if rows
        else "No numbers were measured of this version beyond those below.",
        "",
        "| metric | value |",
        "| --- | --- |",
        f"| accuracy | {_shown(stored.get('accuracy'))} |",
        f"| loss | {_shown(stored.get('loss'))} |",
    ]
    told += [f"| {label} | {_shown(evaluation.get(name))} |" for name, label in _METRICS]
    baselines = _part(evaluation, "baselines")
    told += [
        f"| baseline {_plain(name)} | {_shown(value)} |"
        for name, value in sorted(baselines.items())
    ]
    return told


def _measured_on(rows: object, *, refitted: bool) -> str:
    if not refitted:
        return f"On {rows} rows that no node trained on."
    return (
        f"On {rows} rows that no node had trained on, of the model before it was refitted on all rows:"
        " of these weights nothing was measured."
    )


def _input(model: ExportedModel) -> str:
    shape = " x ".join(str(size) for size in model.schema.input.row_shape)
    places = positions_in_order(model.schema)
    names = ", ".join(f"`{_plain(place)}`" for place in places[:64])
    more = len(places) - 64
    return f"{shape} numbers: {names}{f' and {more} more' if more > 0 else ''}"


def _robust(model: ExportedModel) -> str:
    return f", trimmed so that {model.liars} of them may lie" if model.liars else ""


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _shown(value: Any) -> str:
    """A stored value as text; what is not known says so."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, list | tuple):
        return ", ".join(_shown(one) for one in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """Text of a user within a line of Markdown: without what would end the line or a cell, or mean markup."""
    kept = "".join(c if c.isprintable() else " " for c in text[:200])
    for mark in "\\`|<>*_[]#":
        kept = kept.replace(mark, f"\\{mark}")
    return kept
