"""Describes the input of a model for people: its inputs, what stands at each place, one example record."""

import json

from pydantic import JsonValue

from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.schema import DataSchema

MAX_LISTED = 8
MAX_SHOWN = 4
MAX_NAME_CHARS = 40


def inputs_in_order(schema: DataSchema) -> str:
    """The names of the inputs in stored order, `name[width]` for a list."""
    names = [
        _shown(spec.name) if spec.width == 1 else f"{_shown(spec.name)}[{spec.width}]"
        for spec in schema.columns
    ]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def positions_in_order(schema: DataSchema) -> list[str]:
    """What stands at each place of a row, in stored order: `a`, `color=red`, `spectrum[3]`."""
    named: list[str] = []
    for spec in schema.columns:
        if spec.levels is not None:
            named += [f"{spec.name}={level}" for level in spec.levels]
        elif spec.width == 1:
            named.append(spec.name)
        else:
            named += [f"{spec.name}[{place}]" for place in range(spec.width)]
    return named


def example_record(schema: DataSchema) -> str:
    """A record of typical training values, as JSON, of the first few inputs: the others may be left out."""
    record: dict[str, JsonValue] = {"symbol": schema.symbols[0]} if schema.symbols else {}
    record |= {_shown(spec.name): _typical(spec, schema) for spec in schema.columns[:MAX_SHOWN]}
    shown: JsonValue = {"window": [record]} if schema.input.window else record
    return json.dumps(shown, ensure_ascii=False)


def _typical(spec: ColumnSpec, schema: DataSchema) -> JsonValue:
    if spec.levels:
        return _shown(spec.levels[0])
    if spec.medians:
        return _rounded(spec.medians.get(next(iter(schema.symbols), ""), 1.0))
    if spec.kind == "vector":
        return [_rounded(value) for value in spec.mean[-2:]]
    return _rounded(spec.mean[0])


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _shown(name: str) -> str:
    """A column name of the caller, cut to a length and without lone surrogates."""
    return name[:MAX_NAME_CHARS].encode("utf-8", "replace").decode()
