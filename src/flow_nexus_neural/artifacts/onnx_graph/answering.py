"""Scaling in front of the networks, and the combination behind them, in float64."""

from math import log

import numpy as np

from flow_nexus_neural.artifacts.model import ExportedModel
from flow_nexus_neural.artifacts.onnx_graph.graph import Graph
from flow_nexus_neural.artifacts.standalone.answering import CLIP, EPSILON
from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.kernels.decision import TIE

ROWS, SYMBOL = "rows", "symbol"


def scaled(graph: Graph, model: ExportedModel) -> str:
    """[n, *row_shape] float32 of the inputs `rows` and, where prices depend on it, `symbol`."""
    pieces: list[str] = []
    start, columns = 0, list(model.schema.columns)
    plain: list[ColumnSpec] = []
    for column in [*columns, None]:
        if column is not None and column.medians is None:
            plain.append(column)
            continue
        if plain:
            width = sum(one.width for one in plain)
            mean = np.concatenate([one.mean for one in plain])
            sd = np.concatenate([one.sd for one in plain])
            pieces.append(_standard(graph, _columns(graph, start, width), mean, sd))
            start, plain = start + width, []
        if column is not None:
            pieces.append(_ratio(graph, model, column, _columns(graph, start, column.width)))
            start += column.width
    joined = pieces[0] if len(pieces) == 1 else graph.add("Concat", *pieces, axis=-1)
    known = graph.add("Where", graph.add("IsNaN", joined), graph.double(0.0), joined)
    kept = graph.add("Clip", known, graph.double(-CLIP), graph.double(CLIP))
    return graph.cast(kept, "FLOAT")


def _columns(graph: Graph, start: int, width: int) -> str:
    return graph.cut(ROWS, -1, start, start + width)


def _standard(graph: Graph, values: str, mean: object, sd: np.ndarray) -> str:
    """Standard deviations from the mean; 0 where the training had one value only."""
    centred = graph.add("Sub", values, graph.double(mean))
    divided = graph.add("Div", centred, graph.double(np.where(sd > 0, sd, 1.0)))
    return graph.add("Mul", divided, graph.double((sd > 0).astype(np.float64)))


def _ratio(graph: Graph, model: ExportedModel, column: ColumnSpec, values: str) -> str:
    """The scaled log ratio to the median of the row's symbol; of an unknown symbol the scaled logarithm."""
    medians, n_symbols = column.medians or {}, len(model.schema.symbols)
    table = [log(medians[s]) if medians.get(s, 0) > 0 else np.nan for s in model.schema.symbols]
    zero = graph.ints(0)
    unknown = graph.add("Less", SYMBOL, zero)
    above = graph.add("Greater", SYMBOL, graph.ints(n_symbols))
    outside = graph.add("Or", unknown, above)
    index = graph.add("Where", outside, graph.ints(n_symbols), SYMBOL)
    bases = graph.add("Gather", graph.double([*table, np.nan]), index, axis=0)
    places = range(1, 1 + len(model.schema.input.row_shape))
    bases = graph.add("Unsqueeze", bases, graph.ints(*places))
    positive = graph.add("Greater", values, graph.double(0.0))
    logs = graph.add("Log", graph.add("Where", positive, values, graph.double(np.nan)))
    own = _standard(
        graph, graph.add("Sub", logs, bases), column.mean, np.asarray(column.sd, np.float64)
    )
    mean, sd = column.pooled or (0.0, 0.0)
    alike = _standard(graph, logs, [mean], np.array([sd]))
    return graph.add("Where", graph.add("IsNaN", bases), alike, own)


def combined(graph: Graph, model: ExportedModel, logits: dict[str, str]) -> str:
    """[n, classes] probabilities or [n, 1] values, of the networks' float32 logits by key.

    It is aggregation `mean`: the mean of probabilities or values; with f liars the trimmed mean of logits.
    """
    wide = {key: graph.cast(name, "DOUBLE") for key, name in logits.items()}
    schema, rule = model.schema, model.rule
    if schema.task == "regression":
        values = _trimmed(graph, model, wide) if model.liars else _mean(graph, model, wide)
        scaled_back = graph.add("Mul", values, graph.double(schema.target_sd))
        return graph.add("Add", scaled_back, graph.double(schema.target_mean))
    if rule.class_weight:
        logs = np.log(np.array(rule.class_weight))
        shift = logs[1:] - logs[:1] if schema.n_outputs == 1 else logs
        wide = {key: graph.add("Sub", name, graph.double(shift)) for key, name in wide.items()}
    two = schema.n_outputs == 1
    if model.liars:
        if not two:
            wide = {key: graph.add("LogSoftmax", name, axis=-1) for key, name in wide.items()}
        trimmed = _trimmed(graph, model, wide)
        p = graph.add("Sigmoid", trimmed) if two else graph.add("Softmax", trimmed, axis=-1)
    else:
        shares = {
            key: graph.add("Sigmoid", name) if two else graph.add("Softmax", name, axis=-1)
            for key, name in wide.items()
        }
        p = _mean(graph, model, shares)
    return _calibrated(graph, model, p, two=two)


def _mean(graph: Graph, model: ExportedModel, values: dict[str, str]) -> str:
    """The mean over the slots, each with the value of its network."""
    slots = list(model.slots.values())
    total = ""
    for key, name in values.items():
        part = graph.add("Mul", name, graph.double(slots.count(key) / len(slots)))
        total = graph.add("Add", total, part) if total else part
    return total


def _trimmed(graph: Graph, model: ExportedModel, values: dict[str, str]) -> str:
    """The mean over the slots without the f lowest and the f highest of each element."""
    keys = list(model.slots.values())
    stacked = graph.add(
        "Concat", *(graph.add("Unsqueeze", values[key], graph.ints(0)) for key in keys), axis=0
    )
    n, f = len(keys), model.liars
    ordered = graph.add("TopK", stacked, graph.ints(n), outputs=2, axis=0, largest=1, sorted=1)
    return graph.add("ReduceMean", graph.cut(ordered, 0, f, n - f), axes=[0], keepdims=0)


def _calibrated(graph: Graph, model: ExportedModel, p: str, *, two: bool) -> str:
    """[n, classes] after calibration; of two classes from P(class 1), [n, 1], within 1e-6 and 1 - 1e-6."""
    calibrator = model.calibrator

    def bounded(value: str) -> str:
        return graph.add("Clip", value, graph.double(EPSILON), graph.double(1.0 - EPSILON))

    def rescaled(value: str, scale: float, offset: float) -> str:
        return graph.add("Add", graph.add("Mul", value, graph.double(scale)), graph.double(offset))

    if not two:
        if calibrator is None:
            return p
        logs = graph.add("Log", graph.add("Max", p, graph.double(1e-12)))
        return graph.add("Softmax", rescaled(logs, calibrator.scale, calibrator.offset), axis=-1)
    one = bounded(p)
    if calibrator is not None:
        rest = graph.add("Log", graph.add("Sub", graph.double(1.0), one))
        odds = graph.add("Sub", graph.add("Log", one), rest)
        one = bounded(graph.add("Sigmoid", rescaled(odds, calibrator.scale, calibrator.offset)))
    return graph.add("Concat", graph.add("Sub", graph.double(1.0), one), one, axis=-1)


def decided(graph: Graph, model: ExportedModel, p: str) -> str:
    """[n] int64 index of the decided class, by the model's threshold or class weights."""
    if model.schema.n_outputs == 1:
        one = graph.last(p, 1, keep=False)
        limit = graph.double(model.rule.threshold - TIE)
        return graph.cast(graph.add("GreaterOrEqual", one, limit), "INT64")
    weights = np.array(model.rule.class_weight or [1.0])
    scores = graph.add("Mul", p, graph.double(weights / weights.max()))
    most = graph.add("ReduceMax", scores, axes=[1], keepdims=1)
    first = graph.add("GreaterOrEqual", scores, graph.add("Sub", most, graph.double(TIE)))
    return graph.add("ArgMax", graph.cast(first, "INT64"), axis=1, keepdims=0)
