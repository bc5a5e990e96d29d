"""Rows to predict, read with what the model knows of its own training data."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.data.output_place import OutputPlace
from flow_nexus_neural.engine.prediction.file_input import (
    MIN_BATCH,
    read_input,
    refuse_same_file,
    rows_per_batch,
)
from flow_nexus_neural.engine.reports import ExcludedColumn
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.errors import InvalidArguments
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


def asked(**more):
    return PredictRequest(cluster_id="dnc", **more)


async def version(w, left_out=()):
    await w.train()
    excluded = [ExcludedColumn(name=name, reason=why) for name, why in left_out]
    dataset = w.committed.dataset.model_copy(update={"excluded_columns": excluded})
    return replace(w.committed, dataset=dataset)


async def test_a_file_is_read_in_parts_with_the_columns_that_say_which_row_it_is(tmp_path):
    async with running(tmp_path, 1) as w:
        committed = await version(
            w, [("key", "row number or id"), ("prediction", "row number or id")]
        )
        root = w.engine.context.settings.data_root
        (root / "in.csv").write_text("key,f0,f1,f2,y\nk1,1,2,3,0.5\nk2,2,3,4,\nk3,,,,7\n")
        found = read_input(asked(input_path="in.csv"), committed, w.engine.context.settings)
        assert (found.rows, found.id_names, found.ids) == (3, ["key"], [["k1", "k2", "k3"]])
        np.testing.assert_array_equal(found.labels.values, [0.5, np.nan, 7])
        part = found.read(1, 3)
        assert part.usable.tolist() == [True, False]
        assert part.adapted.x.shape == (2, 3)


async def test_a_matrix_may_have_the_target_as_its_last_column_or_not(tmp_path):
    async with running(tmp_path, 1) as w:
        committed = await version(w)
        root = w.engine.context.settings.data_root
        rows = np.arange(12.0).reshape(3, 4)
        np.save(root / "with.npy", rows)
        np.save(root / "without.npy", rows[:, :3])
        settings = w.engine.context.settings
        labelled = read_input(asked(input_path="with.npy"), committed, settings)
        bare = read_input(asked(input_path="without.npy"), committed, settings)
        np.testing.assert_array_equal(labelled.labels.values, rows[:, 3])
        assert bare.labels is None
        assert labelled.read(0, 3).adapted.x.tobytes() == bare.read(0, 3).adapted.x.tobytes()


async def test_records_of_a_call_are_one_part(tmp_path):
    async with running(tmp_path, 1) as w:
        committed = await version(w)
        found = read_input(asked(input_data=[[1, 2, 3], [4, 5, 6]]), committed, None)
        assert (found.rows, found.labels, found.ids) == (2, None, [])
        assert found.read(0, 2).usable.all()


async def test_the_size_of_a_batch_follows_the_model_alone(tmp_path):
    async with running(tmp_path, 1) as w:
        committed = await version(w)
        assert rows_per_batch(committed) == 1000
        huge = replace(committed, networks={"c0": type("N", (), {"plan": _Plan(10**7)})()})
        assert rows_per_batch(huge) == MIN_BATCH
        middle = replace(committed, networks={"c0": type("N", (), {"plan": _Plan(100_000)})()})
        assert rows_per_batch(middle) == 100


class _Plan:
    def __init__(self, n_params):
        self.n_params = n_params


async def test_an_output_that_is_the_input_is_refused_by_any_name(tmp_path):
    async with running(tmp_path, 1) as w:
        settings = w.engine.context.settings
        root = settings.data_root.resolve()
        (root / "in.csv").write_text("a\n1\n")
        (root / "other.csv").symlink_to(root / "in.csv")
        place = OutputPlace(root, (), "in.csv")
        for name in (
            "in.csv",
            "./in.csv",
            str(root / "in.csv"),
            f"file://{root}/in.csv",
            "other.csv",
        ):
            with pytest.raises(InvalidArguments, match="is the input"):
                refuse_same_file(asked(input_path=name), place, settings)
        refuse_same_file(asked(input_path="x.csv"), place, settings)
        refuse_same_file(asked(input_data=[1]), place, settings)
