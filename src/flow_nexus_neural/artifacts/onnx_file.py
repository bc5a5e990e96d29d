"""One ONNX file from rows in the data's own units to probabilities or values, run before it is kept."""

import json
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
from flow_nexus_neural.data.example import positions_in_order
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName

Array = NDArray[np.float64]
LONGER = 3
"""Steps by which a second window is longer, where the length is free."""


class OnnxFile:
    """The ONNX graph; see the module."""

    name: ClassVar[ExportFormatName] = "onnx"
    suffix: ClassVar[str | None] = ".onnx"
    tolerance: ClassVar[float] = 1e-5

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
            outputs["decision"] = (decided(graph, model, answers), "INT64", ("n",))
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
            whole = _run(session, model, examples.rows, examples.symbols)
            alone = _run(session, model, examples.rows[:1], examples.symbols[:1])
            found, expected = [whole, alone], [examples.answers, examples.answers[:1]]
            lengths = 1
            if _free_length(model):
                longer = np.concatenate([examples.rows, examples.rows[:, :LONGER]], axis=1)
                found.append(_run(session, model, longer, examples.symbols))
                expected.append(answer(model, model.tensors, longer, examples.symbols))
                lengths = 2
        except Exception as failure:  # the runtime raises types of its own
            raise StoreCorrupt(
                f"ONNX Runtime cannot run the file: {str(failure)[:300]}"
            ) from failure
        version = onnxruntime.__version__
        by = f"ONNX Runtime {version}, 2 batch sizes, {lengths} length{'s' * (lengths > 1)}"
        return Recomputed(np.concatenate(found), np.concatenate(expected), by)


def _run(session: Any, model: ExportedModel, rows: Array, symbols: tuple[str | None, ...]) -> Array:
    feeds: dict[str, NDArray[Any]] = {ROWS: rows}
    if model.needs_symbols:
        known = {symbol: index for index, symbol in enumerate(model.schema.symbols)}
        feeds[SYMBOL] = np.array([known.get(s or "", -1) for s in symbols], np.int64)
    answers: Array = session.run([_output(model)], feeds)[0]
    return answers


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
    }
