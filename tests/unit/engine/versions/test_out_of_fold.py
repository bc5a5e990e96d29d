from flow_nexus_neural.engine.state.roles import Learnt, Roles
from flow_nexus_neural.engine.versions.out_of_fold import OutOfFold, nothing_out_of_fold
from flow_nexus_neural.engine.versions.role_report import roles_report

ROLES = Roles(learnt={"aggregator-0": Learnt("stacker", reason="why")})


def test_what_it_took_is_reported_and_nothing_where_none_were_made():
    made = OutOfFold({}, {}, {"folds": 3, "seconds": 1.5})
    assert roles_report(ROLES, None, made) == {"out_of_fold": {"folds": 3, "seconds": 1.5}}
    assert roles_report(ROLES, None, nothing_out_of_fold("too few")) == {}
    assert roles_report(ROLES) == {}


def test_answers_that_were_not_made_have_a_reason_and_are_not_taken_for_some():
    nothing = nothing_out_of_fold("too few")
    assert not nothing
    assert nothing.reason == "too few"
    assert OutOfFold({}, {}, {})
