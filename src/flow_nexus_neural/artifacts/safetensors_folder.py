"""A folder in the layout of model hubs: weights as safetensors, `config.json`, a model card and a manifest.

It is the one format that holds everything of a version, so that `neural_model_import` can serve it again.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from flow_nexus_neural.artifacts.description import answer
from flow_nexus_neural.artifacts.export_format import Files, Recomputed, Rendered, answering
from flow_nexus_neural.artifacts.manifest import KIND, check_read_back, config_json, with_manifest
from flow_nexus_neural.artifacts.model import SEPARATOR, Examples, ExportedModel
from flow_nexus_neural.artifacts.model_card import model_card
from flow_nexus_neural.artifacts.privacy import KEY, as_text
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
CARD: Final = "README.md"
ROLE_PREFIX: Final = "roles" + SEPARATOR
"""Of the tensors of a network that serves no records: `roles/<slot>/<tensor>`."""
HEADER: Final = {"format": "np"}
"""One entry only: several would be written in no fixed order, and equal models as different files."""
METADATA: Final = "__metadata__"
ALIGNMENT: Final = 8


class SafetensorsFolder:
    """Everything of a version; see the module."""

    name: ClassVar[ExportFormatName] = "safetensors"
    suffix: ClassVar[str | None] = None
    tolerance: ClassVar[float] = 1e-5
    begins: ClassVar[None] = None

    def render(self, model: ExportedModel) -> Rendered:
        """See `ExportFormat.render`."""
        files = {
            WEIGHTS: with_metadata(save(all_tensors(model), HEADER), {KEY: as_text(model)}),
            CONFIG: config_json(config(model)),
            CARD: model_card(model).encode(),
        }
        return Rendered(
            files=with_manifest(files),
            not_included=(
                "state of optimisers: a training that goes on from it starts theirs anew",
            ),
            **answering("rows in stored order, scaled as config.json says,", model),
        )

    def recompute(self, model: ExportedModel, files: Files, examples: Examples) -> Recomputed:
        """See `ExportFormat.recompute`: tensors to the bit, and the answers that they give."""
        check_read_back(files)
        try:
            tensors = load(files[WEIGHTS])
            json.loads(files[CONFIG])
        except (SafetensorError, KeyError, ValueError) as failure:
            raise StoreCorrupt(f"the export cannot be read back: {failure}") from failure
        made = all_tensors(model)
        if made.keys() != tensors.keys() or not all(
            np.array_equal(made[name], tensors[name]) for name in made
        ):
            raise StoreCorrupt("the tensors that were read back are not those of the model")
        found = answer(model, tensors, examples.rows, examples.symbols)
        return Recomputed(found, examples.answers, "numpy, from the tensors read back")


def with_metadata(content: bytes, more: Mapping[str, str]) -> bytes:
    """A file of tensors with further metadata, in the order of their names.

    It begins with the length of a JSON header, 8 bytes little-endian; the tensors behind it are placed from
    its end, so that a longer header moves all of them alike. It is padded with spaces, as the library does.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header[METADATA] = dict(sorted({**header.get(METADATA, {}), **more}.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def all_tensors(model: ExportedModel) -> dict[str, NDArray[Any]]:
    """Tensors of serving networks and of those of other roles, contiguous, by name in the file."""
    roles = {
        f"{ROLE_PREFIX}{slot}{SEPARATOR}{name}": tensor
        for slot, network in model.roles.items()
        for name, tensor in network.tensors.items()
    }
    return {**model.tensors, **roles}


def config(model: ExportedModel) -> dict[str, Any]:
    """What `config.json` holds; `stored` has the layers, bundle, schema and metrics of the version."""
    return {
        "format": KIND,
        "format_version": 1,
        "model_type": "flow-nexus-neural",
        "task": model.schema.task,
        "source": {
            "cluster_id": model.cluster_id,
            "name": model.name,
            "version": model.version,
            "bundle_sha": model.sha,
        },
        "cluster": dict(model.cluster),
        "nodes": {slot: dict(one) for slot, one in model.nodes.items()},
        "stored": dict(model.stored),
    }
