"""What a candidate is measured on: rows that chose it and rows that only report are never the same."""

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.engine.versions.evaluation import Score, measure, score
from flow_nexus_neural.engine.versions.judge import Judge
from flow_nexus_neural.engine.versions.served import serve_groups
from flow_nexus_neural.kernels.decision import MOST_PROBABLE
from flow_nexus_neural.settings import Settings
from tests.unit.engine.building import bundle, network

PLAIN = bundle({"worker-0": 1.0})


@pytest.fixture
def anyio_backend():
    return "asyncio"


class SameAnswer:
    """Stands for the evaluator: the given answers for the rows of every part that it is asked for."""

    def __init__(self, data, answer):
        self.data, self.answer, self.asked = data, answer, []
        self.cluster = self.context = self

    async def offload(self, function, *args):
        return function(*args)

    async def infer(self, network, parts):
        self.asked.extend(parts)
        return {part: self.answer(self.data.parts[part]) for part in parts}


def rows(count):
    draw = np.random.Generator(np.random.PCG64(3))
    x = np.round(draw.standard_normal((count, 2)), 4)
    return {"X": x.tolist(), "y": (np.arange(count) % 2).tolist()}


async def judged(count, tmp_path, answer):
    data = prepare(DataRequest(rows(count)), Settings(state_dir=tmp_path))
    evaluator = SameAnswer(data, answer)
    return (
        data,
        evaluator,
        await Judge(evaluator, data, MOST_PROBABLE).round({"c0": network()}, PLAIN),
    )


def by_first_feature(part):
    return part.x[:, :1].astype(np.float32)


async def test_validation_is_measured_on_select_rows(tmp_path):
    data, _, verdict = await judged(240, tmp_path, by_first_feature)
    for part, found in (("select", verdict.validation), ("test", verdict.test)):
        own = data.parts[part]
        answers = serve_groups(PLAIN, data.schema, "mean", {"c0": by_first_feature(own)}, {})
        assert found == score(measure(data.schema, answers.final, own))
    assert verdict.validation != verdict.test
    assert verdict.evaluation.test_rows == len(data.parts["test"]) == 48


async def test_without_select_rows_nothing_is_called_validation(tmp_path):
    _, evaluator, verdict = await judged(199, tmp_path, by_first_feature)
    assert verdict.validation == Score(None, None)
    assert verdict.test.loss is not None
    assert evaluator.asked == ["test"]


async def test_no_validation_number_depends_on_the_labels_of_test_rows(tmp_path):
    data, evaluator, verdict = await judged(240, tmp_path, by_first_feature)
    test = data.parts["test"]
    test.y[:] = 1 - test.y
    again = await Judge(evaluator, data, MOST_PROBABLE).round({"c0": network()}, PLAIN)
    assert again.validation == verdict.validation
    assert again.test != verdict.test
