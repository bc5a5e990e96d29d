"""Plots show what status says, in pictures, Mermaid and words alike; what was not measured is an error."""

import re
import xml.etree.ElementTree as ET

import pytest

from flow_nexus_neural.engine.requests import PlotRequest
from flow_nexus_neural.errors import (
    ClusterTerminated,
    InvalidArguments,
    NotAvailable,
    NotTrained,
    PathNotAllowed,
)
from tests.sim.simulated import blobs, world

PNG = b"\x89PNG\r\n\x1a\n"
TABLE = {
    "records": [
        {"a": k % 7, "b": k % 11, "price": 3.0 * (k % 7) - (k % 11) + k % 5} for k in range(240)
    ]
}


def rows_of(text, head):
    """Cells of the table whose first column has this head."""
    lines = text.split("\n")
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"{head} |"))
    rows = []
    for line in lines[begin + 1 :]:
        if " | " not in line:
            break
        rows.append(line.split(" | "))
    return rows


async def drawn(w, cluster, kind, **more):
    return await w.engine.plot(PlotRequest(cluster_id=cluster, kind=kind, **more))


async def told(w, cluster, record, outcome):
    """A prediction whose outcome is sent afterwards."""
    reply = await w.predict(cluster, record)
    later = await w.predict(cluster, record, outcomes={reply.prediction_id: outcome})
    assert later.feedback_recorded == 1
    return reply


async def words(w, cluster, kind):
    return (await drawn(w, cluster, kind, format="text")).content.decode()


async def test_a_plot_of_an_ended_cluster_gives_no_advice_that_only_a_living_one_could_follow(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.terminate(cluster)
        for kind in ("learning_curve", "reliability", "latency"):
            with pytest.raises(ClusterTerminated) as refused:
                await drawn(w, cluster, kind)
            assert "restore" in refused.value.hint


async def test_every_kind_says_in_words_what_status_measured(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        for kind in ("learning_curve", "reliability", "confusion", "node_weights"):
            with pytest.raises(NotTrained):
                await drawn(w, cluster, kind)
        with pytest.raises(NotAvailable, match="no prediction"):
            await drawn(w, cluster, "latency")
        with pytest.raises(NotAvailable, match="no outcome"):
            await drawn(w, cluster, "predictions")
        await w.connect(cluster)
        await w.train(cluster, blobs(200), epochs=3)
        for n, outcome in ((1, 1), (2, 0), (3, 1)):
            reply = await told(w, cluster, [float(n), 1.0, 0.5], outcome)
        w.kill("worker-1")
        status = await w.until(cluster, lambda s: s.failed_nodes == 1)
        history = (await w.engine.history(cluster)).rounds

        rows = rows_of(await words(w, cluster, "learning_curve"), "round")[: len(history)]
        for row, point in zip(rows, history, strict=True):
            assert row == [str(point.round), f"{point.train_loss:.4g}", f"{point.val_loss:.4g}"]

        said = await words(w, cluster, "topology")
        for node in status.nodes:
            assert f"{node.slot}: {node.role}, {node.status}" in said
        broken = [link for link in status.links if link.fault]
        assert broken
        for link in broken:
            assert f"{link.from_slot} - {link.to_slot}: {link.fault}" in said

        score = status.evaluation.confidence
        said = await words(w, cluster, "reliability")
        rows = rows_of(said, "confidence: P(the decision is right), mean of the bin")
        shown = [[float(row[0]), float(row[1].split(" ")[0])] for row in rows]
        bins = [[one.confidence, one.accuracy] for one in score.per_bin]
        assert shown == [[float(f"{x:.4g}") for x in one] for one in bins]

        counts = [
            row[1:] for row in rows_of(await words(w, cluster, "confusion"), "class \\ decided")
        ]
        assert counts == [[str(n) for n in row] for row in status.evaluation.confusion]

        rows = rows_of(await words(w, cluster, "node_weights"), "node")
        weights = status.feedback.slot_weights
        assert {row[0]: float(row[1]) for row in rows} == {
            slot: float(f"{weight:.4g}") for slot, weight in weights.items()
        }

        said = await words(w, cluster, "latency")
        assert f"{status.latency.n} calls" in said
        assert f"p95: {status.latency.p95:.4g} ms" in said

        rows = rows_of(await words(w, cluster, "predictions"), "recorded outcomes, oldest first")
        assert [row[2] for row in rows] == ["1", "0", "1"]
        assert float(rows[-1][1]) == float(f"{reply.predictions[0]:.4g}")

        await pictures_of(w, cluster)


async def pictures_of(w, cluster):
    """Every kind is a picture and Mermaid, and the same words stand beside both."""
    root = w.engine.context.settings.data_root
    for kind in ("learning_curve", "topology", "reliability"):
        picture = await drawn(w, cluster, kind, format="png", path=f"{kind}.png")
        assert picture.content.startswith(PNG)
        assert (root / f"{kind}.png").read_bytes() == picture.content
        mermaid = await drawn(w, cluster, kind, format="mermaid")
        assert mermaid.text == picture.text
    svg = (await drawn(w, cluster, "confusion", path="confusion.svg")).content
    texts = [element.text for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]
    assert {"decided", "class"} <= set(texts)
    with pytest.raises(InvalidArguments, match="exists"):
        await drawn(w, cluster, "confusion", path="confusion.svg")
    assert await drawn(w, cluster, "confusion", path="confusion.svg", overwrite=True)
    (root / "confusion.svg").write_text("a drawing of somebody's own")
    with pytest.raises(PathNotAllowed, match="is not replaced"):
        await drawn(w, cluster, "confusion", path="confusion.svg", overwrite=True)
    assert (root / "confusion.svg").read_text() == "a drawing of somebody's own"
    for path, refused in (
        ("../out.png", PathNotAllowed),
        ("/etc/out.png", PathNotAllowed),
        ("plot.jpg", InvalidArguments),
    ):
        with pytest.raises(refused):
            await drawn(w, cluster, "confusion", path=path)


async def test_values_are_drawn_with_their_intervals_beside_what_came_of_them(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, TABLE, target="price", epochs=2, federated=False)
        given = [await told(w, cluster, {"a": k, "b": -k}, 10.0 * k) for k in (1, 2)]
        text = await words(w, cluster, "predictions")
        rows = rows_of(text, "recorded outcomes, oldest first")
        numbers = [[float(x) for x in re.findall(r"-?[\d.]+(?:e[-+]\d+)?", r[1])] for r in rows]
        for reply, row, shown in zip(given, rows, numbers, strict=True):
            interval = reply.interval[0]
            wanted = [reply.predictions[0], interval.low, interval.high]
            assert shown == [float(f"{x:.4g}") for x in wanted]
            assert float(row[2]) in (10.0, 20.0)
        with pytest.raises(NotAvailable, match="values"):
            await drawn(w, cluster, "reliability")


async def test_a_name_that_is_no_text_for_a_diagram_ends_none(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, name='$x$ "]\n```  \u6f22')
        await w.connect(cluster)
        mermaid = (await drawn(w, cluster, "topology", format="mermaid")).content.decode()
        assert mermaid.count("```") == 2
        assert (await drawn(w, cluster, "topology", format="png")).content.startswith(PNG)
