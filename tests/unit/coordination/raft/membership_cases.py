"""Changes of a configuration and what they come to, as facts: the 58 cases of etcd's raft.

Source: github.com/etcd-io/raft, confchange/testdata. Each course begins without voters. A step is (operation,
changes, result): `v1` makes 1 a voter, `l1` a learner, `r1` removes it, `u1` tells it something, and `0` is
nobody. A result is "voters | outgoing voters | learners | next learners", or why it is refused. What etcd
notes beside the configuration (progress of each member, whether a joint one is left by itself) is left out:
it decides nothing in these cases.
"""

COURSES = {
    "joint_autoleave": (
        ("simple", "v1", "1 |  |  | "),
        ("enter_joint", "v2 v3", "1 2 3 | 1 |  | "),
        ("enter_joint", "", "already_joint"),
        ("leave_joint", "", "1 2 3 |  |  | "),
    ),
    "joint_idempotency": (
        ("simple", "v1", "1 |  |  | "),
        ("enter_joint", "r1 r2 r9 v2 v3 v4 v2 v3 v4 l2 l2 r4 r4 l1 l1", "3 | 1 | 2 | 1"),
        ("leave_joint", "", "3 |  | 1 2 | "),
    ),
    "joint_learners_next": (
        ("simple", "v1", "1 |  |  | "),
        ("enter_joint", "v2 l1", "2 | 1 |  | 1"),
        ("leave_joint", "", "2 |  | 1 | "),
    ),
    "joint_safety": (
        ("leave_joint", "", "not_joint"),
        ("enter_joint", "", "joint_needs_voters"),
        ("enter_joint", "v1", "joint_needs_voters"),
        ("simple", "v1", "1 |  |  | "),
        ("leave_joint", "", "not_joint"),
        ("enter_joint", "", "1 | 1 |  | "),
        ("enter_joint", "", "already_joint"),
        ("leave_joint", "", "1 |  |  | "),
        ("leave_joint", "", "not_joint"),
        ("enter_joint", "r1 v2 v3 l4", "2 3 | 1 | 4 | "),
        ("enter_joint", "", "already_joint"),
        ("enter_joint", "v12", "already_joint"),
        ("simple", "l15", "is_joint"),
        ("leave_joint", "", "2 3 |  | 4 | "),
        ("simple", "l9", "2 3 |  | 4 9 | "),
    ),
    "simple_idempotency": (
        ("simple", "v1", "1 |  |  | "),
        ("simple", "v1", "1 |  |  | "),
        ("simple", "v2", "1 2 |  |  | "),
        ("simple", "l1", "2 |  | 1 | "),
        ("simple", "l1", "2 |  | 1 | "),
        ("simple", "r1", "2 |  |  | "),
        ("simple", "r1", "2 |  |  | "),
        ("simple", "v3", "2 3 |  |  | "),
        ("simple", "r3", "2 |  |  | "),
        ("simple", "r3", "2 |  |  | "),
        ("simple", "r4", "2 |  |  | "),
    ),
    "simple_promote_demote": (
        ("simple", "v1", "1 |  |  | "),
        ("simple", "v2", "1 2 |  |  | "),
        ("simple", "v3", "1 2 3 |  |  | "),
        ("simple", "l1 v1", "1 2 3 |  |  | "),
        ("simple", "l2", "1 3 |  | 2 | "),
        ("simple", "v2 l2", "1 3 |  | 2 | "),
        ("simple", "v2", "1 2 3 |  |  | "),
    ),
    "simple_safety": (
        ("simple", "l1", "no_voters"),
        ("simple", "v1", "1 |  |  | "),
        ("simple", "v2 l3", "1 2 |  | 3 | "),
        ("simple", "r1 v5", "more_than_one"),
        ("simple", "r1 r2", "no_voters"),
        ("simple", "v3 v4", "more_than_one"),
        ("simple", "l1 v5", "more_than_one"),
        ("simple", "l1 l2", "no_voters"),
        ("simple", "l2 l3 l4 l5", "1 |  | 2 3 4 5 | "),
        ("simple", "r1", "no_voters"),
        ("simple", "r2 r3 r4 r5", "1 |  |  | "),
    ),
    "update": (
        ("simple", "v1", "1 |  |  | "),
        ("simple", "v2 u1", "1 2 |  |  | "),
        ("simple", "u1 u2 u3 u1 u2 u3", "1 2 |  |  | "),
    ),
    "zero": (("simple", "v1 r0 v0 l0", "1 |  |  | "),),
}
