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
from tests.unit.artifacts.building import CASES, EVERY_LAYER, model_and_examples
from tests.unit.wasm.reference import loaded

IN_NODE = """
import { readFileSync } from "node:fs";
import { load } from "./answering.mjs";
const { rows, widths, sizes } = JSON.parse(readFileSync("asked.json"));
const all = rows.map((row) => Float32Array.from(row));
const found = [];
for (const [number, width] of widths.entries()) {
  const module = await load(readFileSync(`network${number}.wasm`));
  found.push(sizes.flatMap((size) => module.run(all.slice(0, size), width)));
}
console.log(JSON.stringify(found));
"""
SIZES = [1, 2, 5, 32, 40]
"""Of batches: single rows, tiles, what a run takes at most, and more."""
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


@node
@pytest.mark.parametrize(
    ("row", "why"),
    [(["60", 1.0], 'row 1 holds "60"'), ([True, 1.0], "row 1 holds true"), ({"a": 60}, "no list")],
)
def test_what_is_no_number_is_refused_and_not_taken_for_a_missing_value(row, why, tmp_path):
    model, _ = model_and_examples([SEVERAL])
    written(model, tmp_path)
    sound = json.loads((tmp_path / "examples.json").read_text())["rows"][0]
    (tmp_path / "asked.json").write_text(json.dumps([sound, row]))
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run_in_node(tmp_path, "predict.mjs", "asked.json")
    assert why in failure.value.stderr


def test_large_logits_are_compared_by_their_size():
    """The last bits of float32 are more than 1e-5 where a logit is above 100."""
    found, expected = np.array([[300.0 + 6e-4, 0.5]]), np.array([[300.0, 0.5]])
    again = Recomputed.logits(found, expected, "wasmtime")
    assert np.abs(again.answers - again.expected).max() < WasmFolder.tolerance
    again = Recomputed.logits(np.array([[300.0, 0.5 + 6e-4]]), expected, "wasmtime")
    assert np.abs(again.answers - again.expected).max() > WasmFolder.tolerance


@node
def test_v8_and_wasmtime_compute_the_same_bits_of_every_layer_in_every_batch(tmp_path):
    model, examples = model_and_examples(**CASES["every layer"])
    written(model, tmp_path)
    shape = (SIZES[-1], *examples.scaled.shape[1:])
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    networks = list(model.networks.values())
    asked = {
        "rows": rows.reshape(len(rows), -1).tolist(),
        "widths": [network.plan.n_outputs for network in networks],
        "sizes": SIZES,
    }
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "bits.mjs").write_text(IN_NODE)
    told = run_in_node(tmp_path, "bits.mjs").astype(np.float32)
    assert len(told) == len(EVERY_LAYER)
    for network, by_v8 in zip(networks, told, strict=True):
        module = loaded(network.plan, (network.params, network.buffers))
        mine = np.concatenate([module.infer(rows[:size]) for size in SIZES])
        np.testing.assert_array_equal(by_v8, mine)


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
