"""A file is predicted row by row with one version into a file that is there whole or not at all."""

import csv
import hashlib
import json
import os
from contextlib import suppress
from itertools import pairwise

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.prediction import predict_file
from flow_nexus_neural.engine.prediction.pinned import PinnedVersion
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.errors import (
    ClusterTerminated,
    DatasetNotFound,
    InvalidArguments,
    InvalidRecord,
    NoKnownFeature,
    NoServingNode,
    NotAvailable,
    NotTrained,
    Overloaded,
    PathNotAllowed,
)
from flow_nexus_neural.vocabulary import round_float
from tests.doubles.limits import HANG_S
from tests.sim.simulated import LAYERS, blobs, world

ROWS = 400
OTHER = ({"type": "dense", "units": 4, "activation": "tanh"}, {"type": "dense", "units": 1})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def table(rows=ROWS, seed=5):
    """Rows like those of the training, each with its label, as lists of texts."""
    data = blobs(rows, seed)
    return [[*map(repr, x), str(y)] for x, y in zip(data["X"], data["y"], strict=True)]


def write_csv(folder, rows, header=("f0", "f1", "f2", "y"), name="in.csv"):
    lines = [",".join(header), *(",".join(row) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return rows


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def left_in(folder, *known):
    return sorted(set(os.listdir(folder)) - {"in.csv", *known})


def records(rows):
    return [dict(zip(("f0", "f1", "f2"), map(float, row[:3]), strict=True)) for row in rows]


async def into_file(w, cluster, path="out.csv", *, given="in.csv", progress=None, **more):
    request = PredictRequest(cluster_id=cluster, input_path=given, output_path=path, **more)
    return await w.engine.predict(request, progress)


async def trained(w, data=None, **more):
    """Two networks on three workers."""
    cluster = await w.cluster(2)
    await w.deploy(cluster, layers=OTHER)
    await w.train(cluster, data, **more)
    return cluster


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(predict_file, "rows_per_batch", lambda _: 50)


async def test_the_rows_of_a_file_get_the_numbers_that_a_reply_gives_for_them(tmp_path, folder):
    rows = write_csv(folder, table(2300))
    async with world(tmp_path) as w:
        cluster = await trained(w)
        report = await into_file(w, cluster)
        told, found = report.output, read_csv(folder / "out.csv")
        assert [row["row"] for row in found] == [str(i) for i in range(2300)]
        for first in range(0, 2300, 1000):
            reply = await w.predict(cluster, records(rows[first : first + 1000]))
            part = found[first : first + 1000]
            assert [float(r["prediction"]) for r in part] == list(
                map(round_float, reply.predictions)
            )
            assert [float(r["confidence"]) for r in part] == list(
                map(round_float, reply.confidences)
            )
            assert [r["decision"] for r in part] == reply.decision
        content = (folder / "out.csv").read_bytes()
        assert (told.bytes, told.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (told.status, told.rows, told.rows_done, told.batches) == ("written", 2300, 2300, 3)
        assert told.path == str((folder / "out.csv").resolve())
        assert told.columns == list(found[0])
        assert (told.degraded_batches, told.rows_without_prediction) == (0, 0)
        counts = {label: sum(r["decision"] == label for r in found) for label in ("0", "1")}
        assert told.class_counts == counts
        right = sum(r["decision"] == row[3] for r, row in zip(found, rows, strict=True))
        assert told.measured.accuracy == pytest.approx(right / 2300)
        assert (told.measured.rows, told.measured.column) == (2300, "y")
        assert told.measured.rmse is None
        assert (report.predictions, report.prediction, report.degraded) == ([], None, False)
        assert left_in(folder) == ["out.csv"]
        assert w.engine.cluster(cluster).file is None


async def test_metrics_of_a_file_can_be_recomputed_from_its_rows(tmp_path, folder):
    rows = write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        measured = (await into_file(w, cluster)).output.measured
        p = np.array([float(row["prediction"]) for row in read_csv(folder / "out.csv")])
        y = np.array([float(row[3]) for row in rows])
        assert measured.brier == pytest.approx(((p - y) ** 2).mean(), abs=1e-5)
        assert measured.log_loss == pytest.approx(
            -np.log(np.where(y == 1, p, 1 - p)).mean(), abs=1e-4
        )
        ranked = [(p[y == 1] > q).mean() + (p[y == 1] == q).mean() / 2 for q in p[y == 0]]
        assert measured.auc == pytest.approx(np.mean(ranked), abs=1e-4)


async def test_classes_of_text_come_with_their_probabilities_as_lines_of_json(tmp_path, folder):
    words = ["low", "mid", "high"]
    data = blobs(240)
    labelled = [
        {"a": x[0], "b": x[1], "kind": words[(x[0] > 0.5) + (x[1] > 0.5)]} for x in data["X"]
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, layers=({"type": "dense", "units": 6, "activation": "relu"},))
        await w.train(cluster, labelled, target="kind")
        report = await into_file(w, cluster, "out.jsonl", given="in.jsonl")
        found = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
        reply = await w.predict(cluster, [{k: r[k] for k in ("a", "b")} for r in labelled])
        assert [r["prediction"] for r in found] == reply.predictions
        classes = [f"p_{label}" for label in reply.classes]
        assert list(found[0]) == ["row", "prediction", "confidence", *classes, "model_version"]
        for row, probabilities in zip(found, reply.probabilities, strict=True):
            assert [row[name] for name in classes] == list(map(round_float, probabilities))
        right = np.mean(
            [r["prediction"] == row["kind"] for r, row in zip(found, labelled, strict=True)]
        )
        assert report.output.measured.accuracy == pytest.approx(right)
        assert sum(report.output.class_counts.values()) == 240


async def test_numbers_come_with_their_interval_also_as_parquet(tmp_path, folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    data = blobs(2000)
    points = [{"a": x[0], "b": x[1], "value": 10 + 2 * x[0] - x[1]} for x in data["X"]]
    (folder / "in.json").write_text(json.dumps(points))
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, points, target="value", task="regression", epochs=1)
        report = await into_file(w, cluster, "out.parquet", given="in.json")
        found = parquet.read_table(folder / "out.parquet").to_pylist()
        reply = await w.predict(cluster, [{k: r[k] for k in ("a", "b")} for r in points[:1000]])
        assert [r["prediction"] for r in found[:1000]] == list(map(round_float, reply.predictions))
        assert [(r["low"], r["high"]) for r in found[:1000]] == [
            (round_float(i.low), round_float(i.high)) for i in reply.interval
        ]
        errors = np.array(
            [r["prediction"] - p["value"] for r, p in zip(found, points, strict=True)]
        )
        measured = report.output.measured
        assert measured.mae == pytest.approx(np.abs(errors).mean(), rel=1e-3)
        assert measured.rmse == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-3)
        assert (report.output.class_counts, measured.accuracy) == (None, None)
        assert (folder / "out.parquet").stat().st_size == report.output.bytes


async def test_records_of_a_call_are_written_too_and_a_short_file_is_answered_in_the_reply(
    tmp_path, folder
):
    rows = write_csv(folder, table(20))
    async with world(tmp_path) as w:
        cluster = await trained(w)
        reply = await w.predict(cluster, records(rows))
        request = PredictRequest(
            cluster_id=cluster, input_data=records(rows), output_path="out.csv"
        )
        await w.engine.predict(request)
        found = read_csv(folder / "out.csv")
        assert [float(r["prediction"]) for r in found] == list(map(round_float, reply.predictions))
        short = await w.engine.predict(PredictRequest(cluster_id=cluster, input_path="in.csv"))
        assert (short.predictions, short.confidences) == (reply.predictions, reply.confidences)
        assert (short.decision, short.output) == (reply.decision, None)
        write_csv(folder, table(1001))
        with pytest.raises(
            InvalidArguments, match="1001 rows; a reply holds at most 1000"
        ) as refusal:
            await w.engine.predict(PredictRequest(cluster_id=cluster, input_path="in.csv"))
        assert "output_path" in refusal.value.hint


async def test_rows_without_any_input_have_no_prediction_and_are_counted(tmp_path, folder):
    rows = table(60)
    rows[7][:3] = ["", "NA", ""]
    rows[9][1] = ""
    write_csv(folder, rows)
    async with world(tmp_path) as w:
        cluster = await trained(w)
        report = await into_file(w, cluster)
        found = read_csv(folder / "out.csv")
        assert [r["row"] for r in found if not r["prediction"]] == ["7"]
        assert (found[7]["decision"], found[7]["confidence"]) == ("", "")
        assert report.output.rows_without_prediction == 1
        assert report.output.measured.rows == 59
        assert "1 rows give none of the model's inputs" in " ".join(report.warnings)
        partly = await w.predict(cluster, [{"f0": float(rows[9][0]), "f2": float(rows[9][2])}])
        assert float(found[9]["prediction"]) == pytest.approx(partly.predictions[0], rel=1e-5)
        with pytest.raises(
            InvalidRecord, match="row 7 gives none of the model's inputs, as 1 rows do"
        ):
            await w.engine.predict(PredictRequest(cluster_id=cluster, input_path="in.csv"))


@pytest.mark.usefixtures("small_batches")
async def test_all_rows_are_of_one_version_whatever_is_committed_meanwhile(
    tmp_path, folder, monkeypatch
):
    rows = write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        version = (await w.status(cluster)).model_version
        before = await w.predict(cluster, records(rows))
        asked, ask = [], PinnedVersion.ask

        async def ask_and_train(self, *arguments):
            asked.append(self.version.bundle.parity)
            if len(asked) == 3:
                await w.train(cluster, epochs=4)
            return await ask(self, *arguments)

        monkeypatch.setattr(PinnedVersion, "ask", ask_and_train)
        report = await into_file(w, cluster)
        assert (await w.status(cluster)).model_version >= version + 4
        found = read_csv(folder / "out.csv")
        assert {r["model_version"] for r in found} == {str(version)}
        assert report.model_version == version
        assert report.bundle_sha == before.bundle_sha
        assert [float(r["prediction"]) for r in found] == list(map(round_float, before.predictions))
        assert report.output.degraded_batches == 0
        after = await w.predict(cluster, records(rows))  # and the others get the newer one
        assert after.predictions != before.predictions
        assert len(asked) == ROWS // 50


@pytest.mark.usefixtures("small_batches")
async def test_batches_that_a_node_misses_are_counted_and_the_file_is_whole(
    tmp_path, folder, monkeypatch
):
    write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        asked, ask = [], PinnedVersion.ask

        async def ask_and_kill(self, *arguments):
            asked.append(1)
            if len(asked) == 6:
                w.kill("worker-1")
                await w.until(cluster, lambda s: s.failed_nodes == 1)
            return await ask(self, *arguments)

        monkeypatch.setattr(PinnedVersion, "ask", ask_and_kill)
        report = await into_file(w, cluster)
        assert (report.output.batches, report.output.degraded_batches) == (8, 3)
        assert report.degraded
        assert "3 of 8 batches" in report.degraded_reason
        assert (report.nodes_used, report.nodes_expected) == (2, 3)
        assert len(report.excluded_nodes) == 1
        assert len(read_csv(folder / "out.csv")) == ROWS


@pytest.mark.usefixtures("small_batches")
async def test_nothing_is_left_when_nobody_can_answer_any_more(tmp_path, folder, monkeypatch):
    write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        asked, ask = [], PinnedVersion.ask

        async def ask_and_kill(self, *arguments):
            asked.append(1)
            if len(asked) == 4:
                for slot in ("worker-0", "worker-1", "worker-2"):
                    w.kill(slot)
                await w.until(cluster, lambda s: s.failed_nodes == 3)
            return await ask(self, *arguments)

        monkeypatch.setattr(PinnedVersion, "ask", ask_and_kill)
        with pytest.raises(NoServingNode):
            await into_file(w, cluster)
        assert left_in(folder) == []
        assert w.engine.cluster(cluster).file is None


class Held:
    """Holds the batches of files at one place until it is let go."""

    def __init__(self, monkeypatch, at=3):
        self.reached, self.go = anyio.Event(), anyio.Event()
        ask, asked = PinnedVersion.ask, []

        async def wait_and_ask(pinned, *arguments):
            asked.append(1)
            if len(asked) == at:
                self.reached.set()
                await self.go.wait()
            return await ask(pinned, *arguments)

        monkeypatch.setattr(PinnedVersion, "ask", wait_and_ask)


@pytest.mark.usefixtures("small_batches")
async def test_a_cancelled_call_ends_the_work_and_leaves_nothing(tmp_path, folder, monkeypatch):
    write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        held = Held(monkeypatch)
        async with anyio.create_task_group() as group:
            group.start_soon(into_file, w, cluster)
            await held.reached.wait()
            assert len(left_in(folder)) == 1  # it grows under a name that is not its own
            assert left_in(folder)[0].endswith(".partial")
            group.cancel_scope.cancel()
        assert left_in(folder) == []
        assert w.engine.cluster(cluster).file is None
        assert w.engine.cluster(cluster).state.predictions_waiting == 0
        assert (await into_file(w, cluster)).output.status == "written"


@pytest.mark.usefixtures("small_batches")
async def test_a_cluster_that_ends_meanwhile_leaves_nothing_of_a_file(
    tmp_path, folder, monkeypatch
):
    write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        held, failures = Held(monkeypatch), []

        async def call():
            try:
                await into_file(w, cluster)
            except ClusterTerminated as failure:
                failures.append(failure.code)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await held.reached.wait()
            await w.terminate(cluster)
            assert left_in(folder) == []
        assert failures == ["cluster_terminated"]


@pytest.mark.usefixtures("small_batches")
async def test_a_call_is_answered_before_hosts_give_up_and_the_same_call_waits_on(
    tmp_path, folder, monkeypatch
):
    write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        held = Held(monkeypatch, at=5)
        monkeypatch.setattr(predict_file, "ANSWER_WITHIN_S", 0.05)
        report = await into_file(w, cluster)
        with anyio.fail_after(HANG_S):
            await held.reached.wait()
        again = await into_file(w, cluster)
        assert report.output.status == again.output.status == "running"
        assert (again.output.rows, again.output.rows_done) == (ROWS, 200)
        assert (again.output.bytes, again.output.sha256, again.output.measured) == (None,) * 3
        assert "the same call again waits for its end" in again.warnings[0]
        assert "out.csv" not in os.listdir(folder)
        with pytest.raises(Overloaded, match="200 of 400 rows are predicted"):
            await into_file(w, cluster, "other.csv")
        held.go.set()
        monkeypatch.setattr(predict_file, "ANSWER_WITHIN_S", HANG_S)
        steps = []

        async def progress(done, total, message):
            steps.append((done, total, message))

        done = await into_file(w, cluster, progress=progress)
        assert (done.output.status, done.output.rows_done) == ("written", ROWS)
        assert done.prediction_id == again.prediction_id
        assert steps[0][:2] == (200, ROWS)
        assert [step[0] for step in steps] == sorted(step[0] for step in steps)
        with pytest.raises(InvalidArguments, match=r"'out.csv' exists"):
            await into_file(w, cluster)  # what became of the first one is known now


@pytest.mark.usefixtures("small_batches")
async def test_others_are_answered_while_a_file_is_predicted(tmp_path, folder, monkeypatch):
    rows = write_csv(folder, table())
    async with world(tmp_path) as w:
        cluster = await trained(w)
        held, made = Held(monkeypatch), []

        async def call():
            made.append(await into_file(w, cluster))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await held.reached.wait()
            other = await w.predict(cluster, records(rows[:3]))
            assert len(other.predictions) == 3
            assert made == []
            held.go.set()
        assert made[0].output.status == "written"


async def test_a_file_that_is_there_stays_unless_it_may_be_replaced(tmp_path, folder):
    write_csv(folder, table(40))
    (folder / "out.csv").write_text("mine")
    async with world(tmp_path) as w:
        cluster = await trained(w)
        with pytest.raises(InvalidArguments, match=r"'out.csv' exists"):
            await into_file(w, cluster)
        with pytest.raises(PathNotAllowed, match="is not replaced"):
            await into_file(w, cluster, overwrite=True)
        assert (folder / "out.csv").read_text() == "mine"
        (folder / "out.csv").unlink()
        await into_file(w, cluster)
        await into_file(w, cluster, overwrite=True)
        assert len(read_csv(folder / "out.csv")) == 40
        with pytest.raises(InvalidArguments, match="is the input"):
            await into_file(w, cluster, "in.csv", overwrite=True)
        assert left_in(folder) == ["out.csv"]


async def test_a_window_of_rows_is_predicted_as_the_same_window_in_a_call(tmp_path, folder):
    steps = [
        {"t": i, "v": float(np.sin(i / 3)), "w": i % 5, "y": int(i % 6 < 3)} for i in range(200)
    ]
    late = sorted(steps, key=lambda row: (row["t"] * 7) % 200)  # in any order: `t` says when
    (folder / "in.csv").write_text(
        "t,v,w,y\n" + "".join(f"{r['t']},{r['v']!r},{r['w']},{r['y']}\n" for r in late)
    )
    async with world(tmp_path) as w:
        cluster = await w.cluster(
            1, layers=({"type": "lstm", "units": 4}, {"type": "dense", "units": 1})
        )
        await w.train(cluster, steps, target="y", time_column="t", window=4, epochs=1)
        report = await into_file(w, cluster)
        found = read_csv(folder / "out.csv")
        assert report.output.rows_without_prediction == 3
        windows = [
            {"window": [{"v": r["v"], "w": r["w"]} for r in steps[t - 3 : t + 1]]}
            for t in (row["t"] for row in late)
            if t >= 3
        ]
        reply = await w.predict(cluster, windows)
        answered = [float(r["prediction"]) for r in found if r["prediction"]]
        assert answered == pytest.approx(reply.predictions, rel=2e-6)
        assert [late[int(r["row"])]["t"] < 3 for r in found] == [not r["prediction"] for r in found]
        assert report.output.measured.rows == 197


async def test_a_forecast_is_measured_against_the_rows_that_follow(tmp_path, folder):
    prices = [20 + (i * 7) % 11 + np.sin(i) for i in range(300)]
    rows = [{"time": i, "price": float(p), "v": i % 5} for i, p in enumerate(prices)]
    (folder / "in.csv").write_text(
        "time,price,v\n" + "".join(f"{r['time']},{r['price']!r},{r['v']}\n" for r in rows)
    )
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, rows, time_column="time")
        report = await into_file(w, cluster)
        found = read_csv(folder / "out.csv")
        rises = [b > a for a, b in pairwise(prices)]
        right = np.mean([int(r["decision"]) == up for r, up in zip(found, rises, strict=False)])
        assert (report.output.measured.rows, report.output.measured.column) == (299, "price")
        assert report.output.measured.accuracy == pytest.approx(right)


REFUSED = {
    "outside": ("/tmp/out.csv", PathNotAllowed, "outside"),
    "up": ("../out.csv", PathNotAllowed, "holds '..'"),
    "hidden": (".out.csv", PathNotAllowed, "hidden"),
    "hidden folder": (".secret/out.csv", PathNotAllowed, "hidden"),
    "the state directory": ("{state}/out.csv", PathNotAllowed, "state directory|outside"),
    "its blobs": ("{state}/blobs/out.csv", PathNotAllowed, "state directory|outside"),
    "no folder": ("nowhere/out.csv", InvalidArguments, "there is no directory 'nowhere'"),
    "a folder": ("folder.csv", PathNotAllowed, "no regular file"),
    "a link": ("link.csv", PathNotAllowed, "no regular file"),
    "a linked folder": ("away/out.csv", PathNotAllowed, "outside"),
    "a pipe": ("pipe.csv", PathNotAllowed, "no regular file"),
    "a device": ("/dev/null", PathNotAllowed, "outside"),
    "no format": ("out.xlsx", InvalidArguments, "no format that is written"),
    "nothing": ("  ", InvalidArguments, "no usable name"),
    "a null byte": ("a\0.csv", InvalidArguments, "no usable name"),
}


@pytest.mark.parametrize(("path", "error", "said"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
async def test_an_output_that_may_not_be_is_refused_and_nothing_is_written(
    tmp_path, folder, path, error, said, overwrite
):
    write_csv(folder, table(40))
    (folder / "folder.csv").mkdir()
    (folder / ".secret").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("secret")
    (folder / "link.csv").symlink_to(outside / "secret.csv")
    (folder / "away").symlink_to(outside)
    os.mkfifo(folder / "pipe.csv")
    there = sorted(os.listdir(folder))
    state = tmp_path / "state"
    async with world(state, data_dir=folder, allow_paths=(state,)) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, epochs=1)
        with pytest.raises(error, match=said):
            await into_file(w, cluster, path.format(state=state), overwrite=overwrite)
        assert sorted(os.listdir(folder)) == there
        assert sorted(os.listdir(outside)) == ["secret.csv"]
        assert (outside / "secret.csv").read_text() == "secret"


async def test_what_cannot_be_predicted_is_refused_with_its_reason_and_leaves_nothing(
    tmp_path, folder
):
    async with world(tmp_path) as w:
        untrained = await w.cluster(1)
        write_csv(folder, table(40))
        with pytest.raises(NotTrained):
            await into_file(w, untrained)
        await w.train(untrained, epochs=1)
        with pytest.raises(DatasetNotFound):
            await into_file(w, untrained, given="nothing.csv")
        with pytest.raises(PathNotAllowed):
            await into_file(w, untrained, given="/etc/passwd")
        bad = table(40)
        for number in range(17, 30):
            bad[number][1] = "abc"
        write_csv(folder, bad)
        with pytest.raises(InvalidRecord, match="row 17: 'f1' is 'abc'"):
            await into_file(w, untrained)
        write_csv(folder, table(40), header=("a", "b", "c", "d"))
        with pytest.raises(NoKnownFeature, match="none of the model's inputs") as refusal:
            await into_file(w, untrained)
        assert "inputs: f0, f1, f2" in refusal.value.hint
        for more in ({"input_data": [1, 2, 3]}, {"detail": "full"}):
            with pytest.raises(InvalidArguments):
                await into_file(w, untrained, **more)
        with pytest.raises(InvalidArguments, match="without output_path"):
            await into_file(w, untrained, path=None, overwrite=True)
        assert left_in(folder) == []


async def test_a_server_that_only_reads_writes_no_file(tmp_path, folder):
    write_csv(folder, table(40))
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, epochs=1)
    async with world(tmp_path, read_only=True) as w:
        with pytest.raises(NotAvailable, match="--read-only"):
            await into_file(w, cluster)
        short = await w.engine.predict(PredictRequest(cluster_id=cluster, input_path="in.csv"))
        assert len(short.predictions) == 40
    assert left_in(folder) == []


async def test_a_server_that_closes_meanwhile_leaves_nothing(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(predict_file, "rows_per_batch", lambda _: 50)
    write_csv(folder, table())
    held = Held(monkeypatch)
    with suppress(BaseExceptionGroup):
        async with world(tmp_path) as w, anyio.create_task_group() as group:
            cluster = await w.cluster(1, layers=LAYERS)
            await w.train(cluster, epochs=1)
            monkeypatch.setattr(predict_file, "ANSWER_WITHIN_S", 0.05)
            group.start_soon(into_file, w, cluster)
            await held.reached.wait()
    assert left_in(folder) == []
