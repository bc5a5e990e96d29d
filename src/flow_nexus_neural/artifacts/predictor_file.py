"""One Python file that needs numpy alone and answers as the cluster does; its weights are in it."""

import base64
import json
import re
import subprocess
import sys
import tempfile
from importlib.resources import files as resources
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from flow_nexus_neural.artifacts.description import described
from flow_nexus_neural.artifacts.export_format import (
    Files,
    Recomputed,
    Rendered,
    answering,
    first,
    left_out,
)
from flow_nexus_neural.artifacts.model import Examples, ExportedModel
from flow_nexus_neural.artifacts.privacy import in_one_line
from flow_nexus_neural.data.example import example_record
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.protocol.digest import canonical_json
from flow_nexus_neural.vocabulary import ExportFormat as ExportFormatName

STANDALONE: Final = "flow_nexus_neural.artifacts.standalone"
MODULES: Final = ("activations", "recurrent", "attention", "layers", "answering", "command")
"""In the order in which they need each other."""
LINE: Final = 100
RUN_S: Final = 120.0
"""How long a predictor may take for a few rows; a slow machine parses a large one in seconds."""

_OWN_IMPORT = re.compile(
    rf"^from {re.escape(STANDALONE)}\.\w+ import (?:\([^)]*\)|[^\n(]*)\n", re.MULTILINE
)
_IMPORT = re.compile(r"^(?:import|from) [^\n]+\n", re.MULTILINE)
_DOCSTRING = re.compile(r'\A""".*?"""\n', re.DOTALL)

_HEAD = '''"""Predictor of model {name} version {version}, exported by flow-nexus-neural.

It needs Python 3.10 or newer and numpy.

As a program it reads a JSON list of records and prints the answers:

    echo '[{example}]' | python FILE          or: python FILE records.json

As a module: `predictor.answer(records)`. A record is a dict by column name or a list of numbers in stored
order, null where a value is unknown. Columns: {columns}

Privacy of the training: {privacy}; the numbers are in MODEL["privacy"].
"""

'''
_TAIL = '''
MODEL = json.loads({model!r})
WEIGHTS = unpacked(_PACKED, json.loads({shapes!r}))


def answer(records: list[Any], symbols: Any = None) -> dict[str, Any]:
    """Answers to records; see `predict`."""
    return predict(MODEL, WEIGHTS, records, symbols)


if __name__ == "__main__":
    main(MODEL, WEIGHTS)
'''


class PredictorFile:
    """The numpy predictor; see the module."""

    name: ClassVar[ExportFormatName] = "predictor"
    suffix: ClassVar[str | None] = ".py"
    tolerance: ClassVar[float] = 1e-6
    begins: ClassVar[re.Pattern[bytes] | None] = re.compile(
        rb'"""Predictor of model .+, exported by flow-nexus-neural\.\n'
    )

    def render(self, model: ExportedModel) -> Rendered:
        """See `ExportFormat.render`."""
        tensors = model.tensors
        packed = b"".join(tensor.astype("<f4").tobytes() for tensor in tensors.values())
        text = base64.b64encode(packed).decode()
        lines = "\n".join(
            f'    "{text[start : start + LINE]}"' for start in range(0, max(len(text), 1), LINE)
        )
        shapes = json.dumps({name: list(tensor.shape) for name, tensor in tensors.items()})
        spec = canonical_json(described(model)).decode()
        source = (
            _head(model)
            + _sources()
            + f"\n\n_PACKED = (\n{lines}\n)\n"
            + _TAIL.format(model=spec, shapes=shapes)
        )
        return Rendered(
            files={"predictor.py": source.encode()},
            not_included=left_out(model),
            **answering("a JSON list of records, by column name or as rows in stored order", model),
        )

    def recompute(self, model: ExportedModel, files: Files, examples: Examples) -> Recomputed:
        """See `ExportFormat.recompute`: the file runs in a Python process of its own."""
        # What is missing is NaN here and null in a record.
        rows = json.loads(json.dumps(examples.rows.tolist()), parse_constant=lambda _: None)
        records = [{"window": row} if examples.rows.ndim == 3 else row for row in rows]
        driver = "import json, runpy, sys\nm = runpy.run_path(sys.argv[1])\ngiven = json.load(sys.stdin)\n"
        driver += "print(json.dumps(m['answer'](given['records'], given['symbols'])))"
        given = json.dumps({"records": records, "symbols": list(examples.symbols)})
        with tempfile.TemporaryDirectory(prefix="flow-nexus-neural-predictor-") as scratch:
            path = Path(scratch, "predictor.py")
            path.write_bytes(first(files))
            try:
                done = subprocess.run(  # noqa: S603 - this interpreter, on a file that was just made here
                    [sys.executable, "-I", "-c", driver, str(path)],
                    input=given,
                    capture_output=True,
                    text=True,
                    timeout=RUN_S,
                    check=True,
                    cwd=scratch,
                )
                told = json.loads(done.stdout)
            except subprocess.TimeoutExpired:
                return Recomputed(None, examples.answers, f"it did not answer within {RUN_S:g} s")
            except (subprocess.CalledProcessError, ValueError) as failure:
                why = str(getattr(failure, "stderr", failure)).strip().splitlines()[-1][:300]
                raise StoreCorrupt(f"the predictor does not run: {why}") from failure
        regression = model.schema.task == "regression"
        found = told["prediction"] if regression else told["probabilities"]
        answers = np.array(found, dtype=np.float64).reshape(examples.answers.shape)
        return Recomputed(
            answers, examples.answers, "the file itself, run by Python without this project"
        )


def _head(model: ExportedModel) -> str:
    columns = model.schema.columns
    example = example_record(model.schema)
    if not example.isprintable() or '"""' in example or set(example) & set("\\'`$"):
        example = "..."  # it would have to be quoted for a shell and for this docstring
    listed = ", ".join(_plain(column.name) for column in columns[:32])
    more = f" and {len(columns) - 32} more" if len(columns) > 32 else ""
    return _HEAD.format(
        name=_plain(model.name),
        version=model.version,
        example=example,
        columns=listed + more,
        privacy=_plain(in_one_line(model)),
    )


def _plain(text: str) -> str:
    """A user's word within the docstring of a program: nothing that could end it or escape from it."""
    return "".join(c if c.isprintable() and c not in "\\\"'`" else "_" for c in text[:80])


def _sources() -> str:
    """The standalone modules as one: imports of others first and once, those of each other left out."""
    folder = resources(STANDALONE)
    imports: list[str] = []
    bodies: list[str] = []
    for module in MODULES:
        source = folder.joinpath(f"{module}.py").read_text(encoding="utf-8")
        source = _OWN_IMPORT.sub("", _DOCSTRING.sub("", source))
        imports += [line for line in _IMPORT.findall(source) if line not in imports]
        bodies.append(_IMPORT.sub("", source).strip("\n"))
    return "".join(sorted(imports)) + "\n\n" + "\n\n\n".join(bodies) + "\n"
