"""The export formats by name.

A further one is its module here, a line below, and its word in `vocabulary.ExportFormat`.
"""

from importlib import import_module
from typing import Final, cast

from flow_nexus_neural.artifacts.export_format import ExportFormat
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName

FORMATS: Final[dict[ExportFormatName, str]] = {
    "safetensors": "safetensors_folder:SafetensorsFolder",
    "onnx": "onnx_file:OnnxFile",
    "keras": "keras_folder:KerasFolder",
    "predictor": "predictor_file:PredictorFile",
    "wasm": "wasm_folder:WasmFolder",
}
"""Module of this package and class, by name."""


def format_named(name: ExportFormatName) -> ExportFormat:
    """The format of this name; its module is imported only now, since some need optional libraries."""
    module, _, kind = FORMATS[name].partition(":")
    made = getattr(import_module(f"flow_nexus_neural.artifacts.{module}"), kind)
    return cast("ExportFormat", made())
