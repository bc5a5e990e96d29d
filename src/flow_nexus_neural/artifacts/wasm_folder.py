"""A folder that answers anywhere: networks as complete WebAssembly modules, a Node script and a web page."""

import hashlib
from importlib import resources
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.artifacts.description import described
from flow_nexus_neural.artifacts.export_format import (
    Files,
    Recomputed,
    Rendered,
    answering,
    left_out,
)
from flow_nexus_neural.artifacts.manifest import check_read_back, config_json, with_manifest
from flow_nexus_neural.artifacts.model import Examples, ExportedModel, ExportedNetwork
from flow_nexus_neural.artifacts.privacy import KEY, as_json
from flow_nexus_neural.errors import NotAvailable, StoreCorrupt
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName
from flow_nexus_neural.wasm.compile.network import compile_network
from flow_nexus_neural.wasm.compile.portable import complete
from flow_nexus_neural.wasm.compile.writer import NotCompilable
from flow_nexus_neural.wasm.machine import WasmTrap, WasmUnavailable, assemble, run_foreign

MODEL: Final = "model.json"
EXAMPLES: Final = "examples.json"
BUNDLED: Final = ("answering.mjs", "predict.mjs", "index.html")
DEADLINE_S: Final = 10.0
"""Of a module that was read back; far above what any takes."""
FORMAT_VERSION: Final = 1


class WasmFolder:
    """Modules with weights, and what answers with them; see the module."""

    name: ClassVar[ExportFormatName] = "wasm"
    suffix: ClassVar[str | None] = None
    tolerance: ClassVar[float] = 1e-5
    begins: ClassVar[None] = None

    def render(self, model: ExportedModel) -> Rendered:
        """See `ExportFormat.render`."""
        description = described(model)
        modules: dict[str, bytes] = {}
        for number, (key, network) in enumerate(model.networks.items()):
            file = f"network{number}.wasm"
            modules[file] = _module(model, network)
            description["networks"][key] = {"file": file, "outputs": network.plan.n_outputs}
        shape = model.schema.input.row_shape
        zeros = np.zeros((1, *shape)).tolist()
        bundled = resources.files("flow_nexus_neural.artifacts.portable")
        files = {
            **modules,
            MODEL: config_json(description),
            EXAMPLES: config_json({"rows": zeros, "symbols": []}),
            **{name: bundled.joinpath(name).read_bytes() for name in BUNDLED},
        }
        return Rendered(
            files=with_manifest(files), not_included=left_out(model), **answering("rows", model)
        )

    def recompute(self, model: ExportedModel, files: Files, examples: Examples) -> Recomputed:
        """See `ExportFormat.recompute`: each module as read back, under a deadline, on the scaled rows."""
        check_read_back(files)
        found: dict[str, NDArray[np.float32]] = {}
        try:
            for number, (key, network) in enumerate(model.networks.items()):
                outputs = run_foreign(files[f"network{number}.wasm"], examples.scaled, DEADLINE_S)
                found[key] = outputs[:, : network.plan.n_outputs]
        except (KeyError, WasmTrap, WasmUnavailable) as failure:
            raise StoreCorrupt(f"the export cannot be read back: {failure}") from failure
        return Recomputed.networks(found, examples, "wasmtime, from the modules read back")


def _module(model: ExportedModel, network: ExportedNetwork) -> bytes:
    try:
        compiled = compile_network(network.plan)
        binary = assemble(compiled.text)
    except (NotCompilable, WasmUnavailable) as failure:
        raise NotAvailable(
            f"network {network.key} cannot be written as WebAssembly: {failure}",
            hint="install the extra wasm, or export as safetensors",
        ) from failure
    meta: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "layers": network.plan.model_dump(mode="json")["layers"],
        "weights_digest": network.digest,
        "weights_sha256": hashlib.sha256(network.params.tobytes() + network.buffers.tobytes()).hexdigest(),
        "cluster_id": model.cluster_id,
        "model_version": model.version,
        "bundle_sha": model.sha,
        KEY: as_json(model),
    }  # fmt: skip
    return complete(binary, compiled, network.tensors, config_json(meta))
