"""A folder with a Keras 3 model of the networks, and what goes before and after them as numbers in JSON."""

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from flow_nexus_neural.artifacts.description import described
from flow_nexus_neural.artifacts.export_format import Files, Recomputed, Rendered, left_out
from flow_nexus_neural.artifacts.manifest import check_read_back, config_json, with_manifest
from flow_nexus_neural.artifacts.model import Examples, ExportedModel
from flow_nexus_neural.errors import NotAvailable, StoreCorrupt
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName

MODEL: Final = "model.keras"
ANSWERING: Final = "answering.json"
PROGRAM: Final = Path(__file__).with_name("keras_program.py")
RUN_S: Final = 300.0
"""How long Keras may take: it imports its backend first, which takes seconds on a busy machine."""


class KerasFolder:
    """The Keras model; see the module. Keras runs in a process of its own, with torch as its backend."""

    name: ClassVar[ExportFormatName] = "keras"
    suffix: ClassVar[str | None] = None
    tolerance: ClassVar[float] = 1e-5
    begins: ClassVar[None] = None

    def render(self, model: ExportedModel) -> Rendered:
        """See `ExportFormat.render`."""
        if find_spec("keras") is None:
            raise NotAvailable(
                "the format keras needs the package keras, which is not installed",
                hint="run: pip install 'flow-nexus-neural[keras]' and start the server again",
            )
        spec = described(model)
        with tempfile.TemporaryDirectory(prefix="flow-nexus-neural-keras-") as scratch:
            folder = Path(scratch)
            (folder / "model.json").write_text(json.dumps(spec), encoding="utf-8")
            np.savez(folder / "tensors.npz", **model.tensors)  # type: ignore[arg-type]  # arrays by name
            _run("build", folder)
            content = (folder / MODEL).read_bytes()
        keys = ", ".join(model.networks)
        return Rendered(
            files=with_manifest({MODEL: content, ANSWERING: config_json(spec)}),
            not_included=(
                f"scaling, class weights, calibration and combination are numbers in {ANSWERING}, not layers",
                *left_out(model),
            ),
            inputs=f"float32 rows {['n', *model.schema.input.row_shape]}, scaled as {ANSWERING} says",
            outputs=f"logits by network: {keys}",
        )

    def recompute(self, model: ExportedModel, files: Files, examples: Examples) -> Recomputed:
        """See `ExportFormat.recompute`: the written model, loaded by Keras, gives the logits of the nodes."""
        check_read_back(files)
        with tempfile.TemporaryDirectory(prefix="flow-nexus-neural-keras-") as scratch:
            folder = Path(scratch)
            (folder / MODEL).write_bytes(files[MODEL])
            np.save(folder / "rows.npy", examples.scaled)
            _run("run", folder)
            with np.load(folder / "logits.npz", allow_pickle=False) as found:
                logits = {key: found[key] for key in model.networks}
        return Recomputed.networks(logits, examples, "Keras, from the model read back")


def _run(action: str, folder: Path) -> None:
    """Run the program. Raises `StoreCorrupt` or `NotAvailable` with its last words."""
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder / "home")}
    try:
        subprocess.run(  # noqa: S603 - this interpreter, on a program of this package
            [sys.executable, "-I", str(PROGRAM), action, str(folder)],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=True,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise NotAvailable(
            f"Keras did not end within {RUN_S:g} s", hint="try again when the machine is idle"
        ) from None
    except subprocess.CalledProcessError as failure:
        last = (failure.stderr or "").strip().splitlines()[-1:] or ["no reason"]
        raise StoreCorrupt(f"Keras cannot {action} the model: {last[0][:300]}") from failure
