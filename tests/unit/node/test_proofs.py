"""A worker's commitments in a node: every segment can be executed again elsewhere, and a faked one cannot."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.proof_of_learning import chain
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.digest import training_digest
from flow_nexus_neural.protocol.messages import (
    Build,
    Failed,
    Pass,
    ProofOrder,
    Reexecute,
    Reveal,
)
from tests.unit.node.building import ask, never, plan_of, service_with, train_request

CONTEXT = "c" * 64
ROWS = 44
PASSES = (Pass(order_seed=11), Pass(order_seed=12, start=1, stop=5))
STEPS = 10
NETWORKS = {
    "dense": ({"type": "dense", "units": 5, "activation": "tanh"},),
    "dropout and batch norm": (
        {"type": "dense", "units": 5},
        {"type": "batch_normalization"},
        {"type": "dropout", "rate": 0.4},
    ),
    "lstm and attention": (
        {"type": "lstm", "units": 4, "return_sequences": True},
        {"type": "multi_head_attention", "heads": 2, "key_dim": 2, "dropout": 0.2},
    ),
    "convolution": ({"type": "conv1d", "filters": 3, "kernel_size": 2},),
}


def order(segment_steps=4, steps=STEPS):
    return ProofOrder(steps=steps, segment_steps=segment_steps, context=CONTEXT)


def request(**changes):
    return train_request(**{"passes": PASSES, "feature_dropout": 0.2, "proof": order(), **changes})


def verifier_with(plan, x, y):
    """Another node, with rows from the engine and a network of other weights."""
    service = NodeService(node_id="validator-0.1", incarnation=1, seed=1)
    ask(service, Build(network="net", plan=plan, seed=99))
    service.attach("shard", {"x": x, "y": y}, writable=False)
    return service


def revealed(service, state, segment):
    """The state before a segment, as the worker reveals it."""
    if segment == 0:
        return state
    into = {name: np.zeros_like(array) for name, array in state.items()}
    service.attach("reveal", into, writable=True)
    ask(service, Reveal(network="net", segment=segment, into="reveal"))
    return into


def repeated(verifier, work, state, segment):
    verifier.attach("revealed", state, writable=False)
    reply, _ = ask(verifier, Reexecute(work=work, segment=segment, state="revealed"))
    return reply.before, reply.after


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "adagrad"])
@pytest.mark.parametrize("layers", NETWORKS)
def test_every_segment_gives_the_committed_state_in_another_node(layers, optimizer):
    plan = plan_of(NETWORKS[layers])
    service, state, published, x, y = service_with(plan, ROWS, optimizer)
    work = request(optimizer=optimizer)
    reply, _ = ask(service, work)
    states = reply.commitment.states
    assert (reply.steps, len(states)) == (STEPS, 4)
    assert states[0] == training_digest(state, 0)
    assert states[-1] == training_digest(published, STEPS)
    assert reply.commitment.head == chain(CONTEXT, states)
    verifier = verifier_with(plan, x, y)
    for segment in (2, 0, 1):  # in any order
        found = repeated(verifier, work, revealed(service, state, segment), segment)
        assert found == states[segment : segment + 2]


def test_a_proof_changes_nothing_of_the_training():
    plan = plan_of(NETWORKS["dropout and batch norm"])
    with_proof, _, published, _, _ = service_with(plan, ROWS)
    without, _, other, _, _ = service_with(plan, ROWS)
    one, _ = ask(with_proof, request())
    two, _ = ask(without, request(proof=None))
    assert two.commitment is None
    assert (one.digest, one.loss, one.steps) == (two.digest, two.loss, two.steps)
    for name, vector in published.items():
        assert np.array_equal(vector, other[name]), name


@pytest.mark.parametrize("segment_steps", [1, 3, 4, 5, 10, 99])
def test_segments_of_any_length_end_with_the_published_state(segment_steps):
    plan = plan_of(NETWORKS["dense"])
    service, state, published, x, y = service_with(plan, ROWS)
    work = request(proof=order(segment_steps))
    reply, _ = ask(service, work)
    n = -(-STEPS // segment_steps)
    assert len(reply.commitment.states) == n + 1
    assert reply.commitment.states[-1] == training_digest(published, STEPS)
    last = repeated(verifier_with(plan, x, y), work, revealed(service, state, n - 1), n - 1)
    assert last[1] == reply.commitment.states[-1]


def test_batches_that_are_too_small_for_batch_norm_are_skipped_alike():
    plan = plan_of(NETWORKS["dropout and batch norm"])
    service, state, _, x, y = service_with(plan, 17)
    work = request(passes=(Pass(order_seed=1), Pass(order_seed=2)), proof=order(1, steps=4))
    reply, _ = ask(service, work)
    assert (reply.steps, len(reply.commitment.states)) == (4, 5)
    found = repeated(verifier_with(plan, x, y), work, revealed(service, state, 3), 3)
    assert found == reply.commitment.states[3:5]


DIFFERENCES = {
    "another learning rate": {"learning_rate": 0.011},
    "another order of rows": {"passes": (Pass(order_seed=10), PASSES[1])},
    "other dropout": {"dropout_seed": 14},
    "another batch size": {"batch_size": 7},
    "other class weights": {"class_weight": (1.0, 2.0)},
    "no feature dropout": {"feature_dropout": 0.0},
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_segment_under_another_assignment_gives_another_state(difference):
    plan = plan_of(NETWORKS["dropout and batch norm"])
    service, state, _, x, y = service_with(plan, ROWS)
    reply, _ = ask(service, request(**DIFFERENCES[difference]))
    before, after = repeated(verifier_with(plan, x, y), request(), state, 0)
    assert before == reply.commitment.states[0]
    assert after != reply.commitment.states[1]


def test_one_changed_label_or_value_gives_another_state():
    plan = plan_of(NETWORKS["dense"])
    service, state, _, x, y = service_with(plan, ROWS)
    reply, _ = ask(service, request())
    flipped, moved = y.copy(), x.copy()
    flipped[:] = 1 - flipped
    moved[:, 0] = np.nextafter(moved[:, 0], np.float32(np.inf))
    for rows in ((x, flipped), (moved, y)):
        _, after = repeated(verifier_with(plan, *rows), request(), state, 0)
        assert after != reply.commitment.states[1]


def test_exactly_the_faked_segment_is_not_confirmed():
    plan = plan_of(NETWORKS["dense"])
    service, state, _, x, y = service_with(plan, ROWS)
    work = request(proof=order(2))
    ask(service, work)
    n, faked = 5, 2
    states = [{k: v.copy() for k, v in revealed(service, state, i).items()} for i in range(n)]
    verifier = verifier_with(plan, x, y)
    states[faked + 1]["params"] += np.float32(0.25)  # and honest from there on
    for segment in range(faked + 1, n - 1):
        repeated(verifier, work, states[segment], segment)
        made = verifier._held["net"].workspace.state("adam")
        states[segment + 1] = {name: vector.copy() for name, vector in made.items()}
    digests = [training_digest(one, 2 * i) for i, one in enumerate(states)]
    confirmed = [
        repeated(verifier, work, states[segment], segment) == tuple(digests[segment : segment + 2])
        for segment in range(n - 1)
    ]
    assert confirmed == [segment != faked for segment in range(n - 1)]


def test_a_changed_state_has_another_digest_before_and_after():
    plan = plan_of(NETWORKS["dense"])
    service, state, _, x, y = service_with(plan, ROWS)
    reply, _ = ask(service, request())
    for name in state:
        if not state[name].size:
            continue
        changed = {key: vector.copy() for key, vector in state.items()}
        changed[name][0] += np.float32(1e-3)
        before, after = repeated(verifier_with(plan, x, y), request(), changed, 0)
        assert before != reply.commitment.states[0], name
        assert after != reply.commitment.states[1], name


def refusal(service, asked):
    reply, _ = service.handle(asked, {}, never)
    assert isinstance(reply, Failed)
    return reply.message


def test_states_are_kept_until_the_base_is_revoked():
    plan = plan_of(NETWORKS["dense"])
    service, *_ = service_with(plan, ROWS)
    asked = Reveal(network="net", segment=1, into="publish")
    assert "keeps no states" in refusal(service, asked)
    ask(service, request())
    ask(service, asked)
    for segment in (0, 3):  # the engine has the base, and the last state was published
        assert "is not kept" in refusal(service, asked.model_copy(update={"segment": segment}))
    service.detach(["shard"])
    ask(service, asked)
    service.detach(["base"])
    assert "keeps no states" in refusal(service, asked)


def test_a_state_is_revealed_into_a_writable_region_only():
    service, *_ = service_with(plan_of(NETWORKS["dense"]), ROWS)
    ask(service, request())
    assert "not granted for writing" in refusal(
        service, Reveal(network="net", segment=1, into="base")
    )


def test_a_segment_of_an_assignment_without_a_proof_is_refused():
    service, *_ = service_with(plan_of(NETWORKS["dense"]), ROWS)
    asked = Reexecute(work=request(proof=None), segment=0, state="base")
    assert "no segments" in refusal(service, asked)


def test_executing_again_needs_no_base_and_publishes_nothing():
    plan = plan_of(NETWORKS["dense"])
    service, state, published, _, _ = service_with(plan, ROWS)
    service.attach("copy", state, writable=False)
    work = request(base="nowhere", publish="nowhere")
    ask(service, Reexecute(work=work, segment=0, state="copy"))
    assert all(np.isnan(vector).all() for vector in published.values())
