"""One ONNX file from rows in the data's own units to probabilities or values, run before it is kept."""

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.artifacts.description import answer
from flow_nexus_neural.artifacts.export_format import (
    Files,
    Recomputed,
    Rendered,
    answering,
    first,
    left_out,
)
from flow_nexus_neural.artifacts.model import Examples, ExportedModel
from flow_nexus_neural.artifacts.onnx_graph.answering import ROWS, SYMBOL, combined, decided, scaled
from flow_nexus_neural.artifacts.onnx_graph.graph import Graph, Shape
from flow_nexus_neural.artifacts.onnx_graph.layers import any_length, network
from flow_nexus_neural.artifacts.privacy import KEY, as_text
from flow_nexus_neural.data.example import positions_in_order
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName

Array = NDArray[np.float64]
Decisions = NDArray[np.int64]
DECISION = "decision"
"""Name of the output with the index of the decided class."""
LONGER = 3
"""Steps by which a second window is longer, where the length is free."""


class OnnxFile:
    """The ONNX graph; see the module."""

    name: ClassVar[ExportFormatName] = "onnx"
    suffix: ClassVar[str | None] = ".onnx"
    tolerance: ClassVar[float] = 1e-5
    begins: ClassVar[re.Pattern[bytes] | None] = re.compile(
        rb"\x08.\x12\x11flow-nexus-neural", re.DOTALL
    )
    """Version of the format, and the name of the producer behind its length (onnx.proto, `ModelProto`)."""

    def render(self, model: ExportedModel) -> Rendered:
        """See `ExportFormat.render`."""
        graph, schema = Graph(), model.schema
        x = scaled(graph, model)
        logits = {key: network(graph, x, one) for key, one in model.networks.items()}
        answers = combined(graph, model, logits)
        free = _free_length(model)
        shape: Shape = ("n", *schema.input.row_shape)
        if free:
            shape = ("n", "steps", schema.input.row_shape[-1])
        inputs: dict[str, tuple[str, Shape]] = {ROWS: ("DOUBLE", shape)}
        if model.needs_symbols:
            inputs[SYMBOL] = ("INT64", ("n",))
        width = 1 if schema.classes is None else len(schema.classes)
        outputs: dict[str, tuple[str, str, Shape]] = {
            _output(model): (answers, "DOUBLE", ("n", width))
        }
        if schema.classes is not None:
            outputs[DECISION] = (decided(graph, model, answers), "INT64", ("n",))
        content = graph.finished(inputs, outputs, _metadata(model), f"version {model.version}")
        fixed = () if free else (f"the length of a row is fixed: {list(schema.input.row_shape)}",)
        told = answering("float64 `rows`, null as NaN,", model)
        if model.needs_symbols:
            told["inputs"] += (
                f"; int64 `symbol`, index into {list(schema.symbols)[:32]}, -1 if unknown"
            )
        return Rendered(
            files={"model.onnx": content}, not_included=(*left_out(model), *fixed), **told
        )

    def recompute(self, model: ExportedModel, files: Files, examples: Examples) -> Recomputed:
        """See `ExportFormat.recompute`: in ONNX Runtime, two batch sizes and, where free, two lengths."""
        try:
            import onnxruntime
        except ImportError:
            why = "ONNX Runtime, by which the file would be run, is not installed:"
            why += " pip install 'flow-nexus-neural[onnx]'"
            return Recomputed(None, examples.answers, why)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                first(files), options, providers=["CPUExecutionProvider"]
            )
            runs = _runs(session, model, examples)
        except Exception as failure:  # the runtime raises types of its own
            raise StoreCorrupt(
                f"ONNX Runtime cannot run the file: {str(failure)[:300]}"
            ) from failure
        _check_decisions(model, runs, self.tolerance)
        lengths = "2 lengths" if _free_length(model) else "1 length"
        by = f"ONNX Runtime {onnxruntime.__version__}, 2 batch sizes, {lengths}"
        found, expected = (
            np.concatenate(part) for part in zip(*(run.answers for run in runs), strict=True)
        )
        return Recomputed(found, expected, by)


@dataclass(frozen=True)
class _Ran:
    """What the file answered to some rows, and what the cluster does."""

    answers: tuple[Array, Array]
    decisions: tuple[Decisions, Decisions] | None


def _runs(session: Any, model: ExportedModel, examples: Examples) -> list[_Ran]:
    """All rows, the first alone and, where their length is free, longer ones, which numpy answers instead."""
    decided = examples.decisions
    own: list[tuple[Array, int, Array, Decisions | None]] = [
        (examples.rows, n, examples.answers[:n], None if decided is None else decided[:n])
        for n in (len(examples.rows), 1)
    ]
    if _free_length(model):
        longer = np.concatenate([examples.rows, examples.rows[:, :LONGER]], axis=1)
        answers = answer(model, model.tensors, longer, examples.symbols)
        own.append(
            (longer, len(longer), answers, None if decided is None else model.rule.decide(answers))
        )
    runs = []
    for rows, n, answers, decisions in own:
        found, *chosen = _run(session, model, rows[:n], examples.symbols[:n])
        runs.append(_Ran((found, answers), None if decisions is None else (chosen[0], decisions)))
    return runs


def _check_decisions(model: ExportedModel, runs: list[_Ran], tolerance: float) -> None:
    """Raises `StoreCorrupt` where the file decides another class than the cluster does.

    Not where the cluster's own answer is nearer to deciding otherwise than answers may be apart.
    """
    for run in runs:
        if run.decisions is None:
            continue
        found, expected = run.decisions
        p = run.answers[1]
        if p.shape[1] == 2:
            margin = np.abs(p[:, 1] - model.rule.threshold)
        else:
            highest = np.sort(model.rule.scores(p), axis=1)
            margin = highest[:, -1] - highest[:, -2]
        wrong = np.flatnonzero((found != expected) & (margin > tolerance))
        if wrong.size:
            row = int(wrong[0])
            raise StoreCorrupt(
                f"the ONNX file decides class {found[row]} of row {row}, the cluster class {expected[row]}"
            )


def _run(
    session: Any, model: ExportedModel, rows: Array, symbols: tuple[str | None, ...]
) -> list[NDArray[Any]]:
    """What the file gives out: answers and, of classes, decisions."""
    feeds: dict[str, NDArray[Any]] = {ROWS: rows}
    if model.needs_symbols:
        known = {symbol: index for index, symbol in enumerate(model.schema.symbols)}
        feeds[SYMBOL] = np.array([known.get(s or "", -1) for s in symbols], np.int64)
    wanted = [_output(model), *([] if model.schema.classes is None else [DECISION])]
    found: list[NDArray[Any]] = session.run(wanted, feeds)
    return found


def _output(model: ExportedModel) -> str:
    return "value" if model.schema.classes is None else "probabilities"


def _free_length(model: ExportedModel) -> bool:
    return all(any_length(network.plan) for network in model.networks.values())


def _metadata(model: ExportedModel) -> dict[str, str]:
    schema = model.schema
    return {
        "cluster_id": model.cluster_id,
        "version": str(model.version),
        "bundle_sha": model.sha,
        "task": schema.task,
        "classes": json.dumps(schema.classes),
        "columns": json.dumps(positions_in_order(schema)),
        "symbols": json.dumps(list(schema.symbols)),
        KEY: as_text(model),
    }
