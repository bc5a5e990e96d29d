"""A folder of WebAssembly answers in wasmtime, and in Node to the bit; a broken one is noticed."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from flow_nexus_neural.artifacts.export_format import Recomputed
from flow_nexus_neural.artifacts.wasm_folder import WasmFolder
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.wasm.compile.portable import meta_of, sections, signed, unsigned
from tests.doubles.limits import HANG_S
from tests.unit.artifacts.building import CASES, model_and_examples
from tests.unit.wasm.reference import loaded

IN_NODE = """
import { readFileSync } from "node:fs";
import { load } from "./answering.mjs";
const { rows, width } = JSON.parse(readFileSync("asked.json"));
const module = await load(readFileSync("network0.wasm"));
console.log(JSON.stringify(module.run(rows.map((row) => Float32Array.from(row)), width)));
"""
SEVERAL = [
    {"type": "lstm", "units": 3, "return_sequences": True},
    {"type": "attention", "heads": 2, "key_dim": 2},
    {"type": "dense", "units": 3, "activation": "gelu"},
]
node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")


def run_in_node(folder, *arguments):
    done = subprocess.run(
        ["node", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=HANG_S
    )
    return np.array(json.loads(done.stdout))


def written(model, folder):
    files = WasmFolder().render(model).files
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


@node
@pytest.mark.parametrize("name", CASES)
def test_the_bundled_script_answers_as_the_cluster(name, tmp_path):
    model, examples = model_and_examples(**CASES[name])
    files = written(model, tmp_path)
    again = WasmFolder().recompute(model, files, examples)
    assert np.abs(again.answers - again.expected).max() < WasmFolder.tolerance
    rows = [[None if np.isnan(v) else v for v in row.ravel()] for row in examples.rows]
    (tmp_path / "asked.json").write_text(
        json.dumps({"rows": rows, "symbols": list(examples.symbols)})
    )
    told = run_in_node(tmp_path, "predict.mjs", "asked.json")
    scale = max(1.0, float(np.abs(examples.answers).max()))
    assert np.abs(told - examples.answers).max() < 1e-5 * scale


def test_large_logits_are_compared_by_their_size():
    """The last bits of float32 are more than 1e-5 where a logit is above 100."""
    found, expected = np.array([[300.0 + 6e-4, 0.5]]), np.array([[300.0, 0.5]])
    again = Recomputed.logits(found, expected, "wasmtime")
    assert np.abs(again.answers - again.expected).max() < WasmFolder.tolerance
    again = Recomputed.logits(np.array([[300.0, 0.5 + 6e-4]]), expected, "wasmtime")
    assert np.abs(again.answers - again.expected).max() > WasmFolder.tolerance


@node
def test_v8_and_wasmtime_compute_the_same_bits(tmp_path):
    model, examples = model_and_examples([SEVERAL])
    written(model, tmp_path)
    (network, *_) = model.networks.values()
    mine = loaded(network.plan, (network.params, network.buffers)).infer(examples.scaled)
    flat = examples.scaled.reshape(len(examples.scaled), -1)
    width = network.plan.n_outputs
    (tmp_path / "asked.json").write_text(json.dumps({"rows": flat.tolist(), "width": width}))
    (tmp_path / "bits.mjs").write_text(IN_NODE)
    told = run_in_node(tmp_path, "bits.mjs").astype(np.float32)
    np.testing.assert_array_equal(told, mine)


def test_a_module_says_what_it_computes_and_one_that_was_changed_is_noticed():
    model, examples = model_and_examples([SEVERAL])
    files = dict(WasmFolder().render(model).files)
    (network, *_) = model.networks.values()
    meta = json.loads(meta_of(files["network0.wasm"]))
    assert meta["weights_digest"] == network.digest
    assert [layer["type"] for layer in meta["layers"]] == [x.type for x in network.plan.layers]
    assert [kind for kind, _ in sections(files["network0.wasm"])][-2:] == [11, 0]
    files["network0.wasm"] = files["network0.wasm"].replace(b"\x0b", b"\x0c", 1)
    with pytest.raises(StoreCorrupt, match="changed"):
        WasmFolder().recompute(model, files, examples)


@pytest.mark.parametrize("value", [0, 1, 63, 64, 127, 128, 16383, 16384, 1 << 26])
def test_numbers_of_the_binary_format_are_read_back(value):
    assert sum((b & 0x7F) << 7 * n for n, b in enumerate(unsigned(value))) == value
    assert sum((b & 0x7F) << 7 * n for n, b in enumerate(signed(value))) == value
    assert not signed(value)[-1] & 0x40
