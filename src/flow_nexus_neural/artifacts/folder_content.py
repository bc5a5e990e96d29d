"""What an exported folder holds, read back: manifest, configuration and tensors checked, nothing believed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from flow_nexus_neural.artifacts.export_format import Files
from flow_nexus_neural.artifacts.manifest import EXPORT_AGAIN, KIND, check, manifest_digest
from flow_nexus_neural.artifacts.model import SEPARATOR
from flow_nexus_neural.artifacts.safetensors_folder import CONFIG, ROLE_PREFIX, WEIGHTS
from flow_nexus_neural.errors import InvalidDataset
from flow_nexus_neural.protocol.plan import NetworkPlan

MAX_CONFIG_BYTES: Final = 64 << 20

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class FolderContent:
    """An export whose files are those that its manifest names.

    Attributes:
        sha256: Of the manifest.
        config: Its configuration; a JSON object of which only the format was checked.
        tensors: float32, finite, by their names in the file.
    """

    sha256: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Vector]

    def vectors(self, prefix: str, plan: NetworkPlan) -> tuple[Vector, Vector]:
        """The flat vectors of a network whose tensors have this prefix.

        Raises:
            InvalidDataset: A tensor is missing or has another shape than the plan says.
        """
        flat: list[Vector] = []
        for specs in (plan.trainable, plan.buffers):
            parts = [np.zeros(0, dtype=np.float32)]
            for spec in specs:
                tensor = self.tensors.get(prefix + spec.name)
                if tensor is None or tensor.shape != spec.shape:
                    found = "missing" if tensor is None else f"of shape {list(tensor.shape)}"
                    raise InvalidDataset(
                        f"tensor '{prefix}{spec.name}' of the export is {found}; its layer needs"
                        f" {list(spec.shape)}",
                        hint=EXPORT_AGAIN,
                    )
                parts.append(tensor.ravel())
            flat.append(np.concatenate(parts))
        return flat[0], flat[1]


def network_prefix(key: str) -> str:
    """In front of the tensors of a serving network."""
    return f"{key}{SEPARATOR}"


def role_prefix(slot: str) -> str:
    """In front of the tensors of the network of a slot that serves no records."""
    return f"{ROLE_PREFIX}{slot}{SEPARATOR}"


def folder_content(files: Files, expected: str | None) -> FolderContent:
    """Check the files of a folder.

    Args:
        files: Its content by name, the manifest among them.
        expected: sha256 that the manifest must have; None where the caller does not know it.

    Raises:
        InvalidDataset: A file was changed, is missing or cannot be read.
    """
    check(files)
    digest = manifest_digest(files)
    if expected is not None and digest != expected:
        raise InvalidDataset(
            f"the export's manifest has sha256 {digest[:12]}, not {expected[:12]}: it is another export",
            hint="pass the sha256 that neural_model_export gave for this folder, or leave it out",
        )
    missing = [name for name in (WEIGHTS, CONFIG) if name not in files]
    if missing:
        raise InvalidDataset(f"the export has no '{missing[0]}'", hint=EXPORT_AGAIN)
    return FolderContent(digest, _config(files[CONFIG]), _tensors(files[WEIGHTS]))


def _config(content: bytes) -> dict[str, Any]:
    try:
        value = (
            json.loads(content, parse_float=_finite, parse_constant=_finite)
            if len(content) <= MAX_CONFIG_BYTES
            else None
        )
    except (ValueError, RecursionError) as failure:
        raise InvalidDataset(
            f"'{CONFIG}' is no JSON of finite numbers", hint=EXPORT_AGAIN
        ) from failure
    if not isinstance(value, dict) or value.get("format") != KIND:
        raise InvalidDataset(
            f"'{CONFIG}' does not describe a model of this program", hint=EXPORT_AGAIN
        )
    if value.get("format_version") != 1:
        raise InvalidDataset(
            f"'{CONFIG}' is of format {str(value.get('format_version'))[:20]}; this version reads 1",
            hint="use the version of this program that wrote it",
        )
    return value


def _finite(text: str) -> float:
    """A number of JSON text. Raises `ValueError` for NaN, infinities, and what is too large for a float."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no number of JSON")
    return number


def _tensors(content: bytes) -> dict[str, Vector]:
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as failure:
        raise InvalidDataset(f"'{WEIGHTS}' is no safetensors file", hint=EXPORT_AGAIN) from failure
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise InvalidDataset(
                f"tensor '{name[:120]}' holds other values than finite float32", hint=EXPORT_AGAIN
            )
    return tensors
