"""The manifest of promises: nothing promised without a test, nothing in the code without a promise."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.manifest import PROMISES
from tests.manifest.checks import (
    arguments_of_the_code,
    faults_of_promises,
    missing_tests,
    node_ids_below,
    published,
    stale,
    texts_of_the_product,
    uncovered,
    unsaid,
    words_of_the_code,
)
from tests.manifest.promise import Promise

ROOT = Path(__file__).parents[2]
TOOLS = json.loads((ROOT / "tests" / "integration" / "tools_list.json").read_text(encoding="utf-8"))
HELD = Promise(
    "seed.topology.ring", "seed: x", "A ring is a cycle.", ("tests/a.py::test_a",), "held"
)


@pytest.fixture(scope="module")
def existing() -> set[str]:
    return node_ids_below(ROOT / "tests", ROOT)


def test_every_promise_is_one_sentence_with_an_id_of_its_own_and_tests():
    assert faults_of_promises(PROMISES) == []


def test_every_test_that_a_promise_names_exists(existing):
    assert missing_tests(PROMISES, existing) == []


def test_every_word_that_a_client_may_use_or_meet_has_a_promise():
    assert uncovered(PROMISES, words_of_the_code()) == []


def test_every_argument_of_every_tool_has_a_promise():
    assert uncovered(PROMISES, arguments_of_the_code()) == []
    assert arguments_of_the_code() == published(TOOLS, "inputSchema")


def test_no_promise_is_about_what_the_code_does_not_have():
    replies = published(TOOLS, "outputSchema")
    assert stale(PROMISES, words_of_the_code(), arguments_of_the_code(), replies) == []


def test_what_is_not_built_is_said_somewhere_in_the_words_of_its_promise():
    assert unsaid(PROMISES, texts_of_the_product(ROOT)) == []


def test_the_groups_of_words_are_those_that_are_read_from_the_code():
    assert set(words_of_the_code()) == {
        "topology", "architecture", "consensus", "role", "model_size", "optimizer", "aggregation",
        "export_format", "plot_kind", "plot_format",
        "detail", "answer_detail", "until", "task_kind", "tool", "error", "layer",
    }  # fmt: skip
    assert all(words_of_the_code().values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tests": ()}, "held by no test"),
        ({"id": "topology.ring"}, "no id of the documented form"),
        ({"id": "seed.Ring"}, "no id of the documented form"),
        ({"source": "contract: section 1"}, "does not name a part of its source"),
        ({"text": "A ring is a cycle"}, "not one sentence"),
        ({"text": "A ring. A cycle."}, "not one sentence"),
        ({"status": "not_built"}, "needs words that say so"),
        ({"instead": "no rings yet"}, "needs words that say so"),
    ],
)
def test_a_promise_with_a_fault_is_named(change, says):
    assert faults_of_promises([HELD]) == []
    (fault,) = faults_of_promises([replace(HELD, **change)])
    assert says in fault


def test_an_id_that_is_there_twice_is_named():
    assert faults_of_promises([HELD, HELD]) == ["seed.topology.ring is there 2 times"]


@pytest.mark.parametrize(
    "planted", ["tests/a.py::test_b", "tests/b.py::test_a", "tests/a.py::test_a[1]", "tests/a.py"]
)
def test_a_test_that_does_not_exist_is_named_with_the_promise(tmp_path, planted):
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_one.py").write_text("def test_a(): ...\n\ndef helper(): ...\n")
    (folder / "test_two.py").write_text("class TestX:\n    async def test_b(self): ...\n")
    (folder / "other.py").write_text("def test_c(): ...\n")
    found = node_ids_below(folder, tmp_path)
    assert found == {"tests/test_one.py::test_a", "tests/test_two.py::TestX::test_b"}
    assert missing_tests([replace(HELD, tests=("tests/test_one.py::test_a",))], found) == []
    (fault,) = missing_tests([replace(HELD, tests=(planted,))], found)
    assert f"seed.topology.ring names {planted};" in fault


def test_a_test_that_moved_is_named_with_its_new_place():
    (fault,) = missing_tests([HELD], {"tests/unit/b.py::test_a"})
    assert fault.endswith("a test of that name is: tests/unit/b.py::test_a")


def test_a_word_that_is_added_without_a_promise_is_named():
    words = {"topology": {"ring", "torus"}, "error": {"too_hot"}}
    assert uncovered([HELD], words) == [
        "error.too_hot has no promise",
        "topology.torus has no promise",
    ]


@pytest.mark.parametrize(
    ("id_", "is_stale"),
    [
        ("seed.topology.torus", True),
        ("contract.init.colour", True),
        ("contract.init.reply.colour", True),
        ("contract.init.rule", True),
        ("contract.init.rule.colour", False),
        ("contract.init.reply.created", False),
        ("contract.init.reuse", False),
        ("seed.topology.ring", False),
        ("seed.claims.anything", False),
    ],
)
def test_a_promise_about_something_that_was_removed_is_named(id_, is_stale):
    found = stale(
        [replace(HELD, id=id_)],
        {"topology": {"ring"}},
        {"init": {"reuse"}},
        {"init": {"created"}},
    )
    assert bool(found) is is_stale


def test_an_admission_that_stands_nowhere_is_named():
    promise = replace(HELD, status="not_built", instead="no rings in this version")
    assert unsaid([promise], ["There are\nno rings in this\nversion."]) == []
    (fault,) = unsaid([promise], ["There are rings."])
    assert "seed.topology.ring" in fault


def test_dropping_any_promise_of_a_word_or_an_argument_is_noticed():
    groups = {**words_of_the_code(), **arguments_of_the_code()}
    needed = {f"{group}.{word}" for group, words in groups.items() for word in words}
    for suffix in sorted(needed):
        rest = [promise for promise in PROMISES if promise.id.partition(".")[2] != suffix]
        assert uncovered(rest, groups) == [f"{suffix} has no promise"]
