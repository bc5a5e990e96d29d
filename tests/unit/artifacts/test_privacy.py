"""What a reader of an export is told of the privacy of its training, in words and as numbers."""

import json

import onnx
import pytest

from flow_nexus_neural.artifacts.privacy import as_text, in_one_line, table
from flow_nexus_neural.artifacts.registry import format_named
from flow_nexus_neural.artifacts.safetensors_folder import with_metadata
from flow_nexus_neural.coordination.privacy.lineage import (
    FRESH,
    UNKNOWN,
    of_training,
    with_training,
)
from flow_nexus_neural.wasm.compile.portable import meta_of
from tests.unit.artifacts.building import DENSE, model_and_examples
from tests.unit.coordination.test_privacy_lineage import THERE, trained

PRIVATE = with_training(FRESH, trained("trn_a", max_epsilon=9.0))
BARE = with_training(FRESH, trained("trn_b", None))
KINDS = with_training(PRIVATE, trained("trn_c", of_data=True))
MIXED = with_training(PRIVATE, trained("trn_b", None, THERE))


def model_of(privacy):
    from dataclasses import replace

    model, _ = model_and_examples([DENSE])
    return replace(model, privacy=privacy)


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        (None, "not recorded"),
        (UNKNOWN, "unknown: no epsilon holds"),
        (BARE, "none: training rows may be told"),
        (MIXED, "mixed: no epsilon holds"),
        (KINDS, "mixed: no epsilon holds"),
        (PRIVATE, f"central_dp, epsilon {PRIVATE.epsilon:.6g} at delta 1e-05"),
    ],
)
def test_one_line_says_what_holds(privacy, said):
    assert said in in_one_line(model_of(privacy))
    assert table(model_of(privacy))[0] == f"- privacy: {in_one_line(model_of(privacy))}"
    told = json.loads(as_text(model_of(privacy)))
    assert told == (None if privacy is None else json.loads(privacy.model_dump_json()))


def test_the_table_has_each_training_and_how_it_is_counted():
    lines = table(model_of(MIXED))
    (row,) = [line for line in lines if line.startswith("| `trn_a`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:8] == ["central_dp", f"{PRIVATE.epsilon:.6g}", "1e-05", "2", "1", "3", "4"]
    assert "at most 9" in cells[8]
    assert any("trn_b" in line and "| none | - |" in line for line in lines)
    assert any(line.startswith("- accountant: dp-accounting") for line in lines)


def test_two_kinds_of_clients_have_no_common_number_and_are_both_explained():
    lines = table(model_of(KINDS))
    assert any("protect workers and clients of the data: no common epsilon" in one for one in lines)
    protected = [
        one for one in lines if one.startswith("- protected: client: all training rows of one")
    ]
    assert len(protected) == 2


def test_metadata_of_every_format_has_the_same_numbers():
    model, wanted = model_of(PRIVATE), json.loads(PRIVATE.model_dump_json())
    content = next(iter(format_named("onnx").render(model).files.values()))
    entries = {one.key: one.value for one in onnx.load_from_string(content).metadata_props}
    assert json.loads(entries["privacy"]) == wanted
    for name, file in (("keras", "answering.json"), ("wasm", "model.json")):
        files = format_named(name).render(model).files
        assert json.loads(files[file])["privacy"] == wanted
    assert json.loads(meta_of(files["network0.wasm"]))["privacy"] == wanted


def test_more_metadata_moves_no_tensor():
    from safetensors.numpy import load, save

    tensors = model_of(None).tensors
    plain = save(tensors, {"format": "np"})
    more = with_metadata(plain, {"b": "x" * 1000, "a": '"ü"'})
    assert {k: v.tobytes() for k, v in load(more).items()} == {
        k: v.tobytes() for k, v in tensors.items()
    }
    assert int.from_bytes(more[:8], "little") % 8 == 0
    assert with_metadata(plain, {"a": '"ü"', "b": "x" * 1000}) == more


def test_masks_alone_are_said_to_be_no_privacy_of_rows():
    from flow_nexus_neural.coordination.privacy.spending import PrivacySpent

    masked = of_training("trn_c", 2, None, PrivacySpent(data=("a",)), secure_aggregation=True)
    assert any("none, masked" in line for line in table(model_of(with_training(FRESH, masked))))
