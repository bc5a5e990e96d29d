import pytest

from flow_nexus_neural.coordination.consensus.raft.membership import (
    Change,
    Configuration,
    MembershipRefused,
    enter_joint,
    leave_joint,
    simple,
)
from tests.unit.coordination.raft.membership_cases import COURSES

KINDS = {"v": "voter", "l": "learner", "r": "removed", "u": "updated"}
REFUSALS = {
    "already_joint",
    "is_joint",
    "joint_needs_voters",
    "more_than_one",
    "no_voters",
    "not_joint",
}


def changes(text):
    return [Change(KINDS[word[0]], word[1:].strip("0") and word[1:]) for word in text.split()]


def written(configuration):
    parts = (
        configuration.voters,
        configuration.outgoing,
        configuration.learners,
        configuration.learners_next,
    )
    return " | ".join(" ".join(sorted(part, key=int)) for part in parts)


def applied(configuration, operation, text):
    if operation == "simple":
        return simple(configuration, changes(text))
    if operation == "enter_joint":
        return enter_joint(configuration, changes(text))
    return leave_joint(configuration)


def test_all_cases_are_there():
    assert sum(len(course) for course in COURSES.values()) == 58
    expected = {result for course in COURSES.values() for *_, result in course}
    assert expected & REFUSALS == REFUSALS


@pytest.mark.parametrize("name", COURSES)
def test_a_configuration_changes_as_in_etcd(name):
    configuration = Configuration()
    for operation, text, expected in COURSES[name]:
        if expected in REFUSALS:
            with pytest.raises(MembershipRefused) as refused:
                applied(configuration, operation, text)
            assert refused.value.refusal == expected
        else:
            configuration = applied(configuration, operation, text)
            assert written(configuration) == expected


def test_members_are_all_who_receive_the_log():
    joint = enter_joint(
        Configuration(frozenset("ab")), [Change("learner", "a"), Change("voter", "c")]
    )
    assert joint.members == set("abc")
    assert joint.is_joint
    assert not leave_joint(joint).is_joint
