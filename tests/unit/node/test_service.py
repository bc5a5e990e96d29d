"""The node's service: what it answers, what it keeps apart, and that it never raises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from flow_nexus_neural.node.service import MAX_NETWORKS, NodeService
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import (
    Build,
    Built,
    Cancel,
    Done,
    Failed,
    GetWeights,
    Infer,
    Load,
    Loaded,
    Outputs,
    Pass,
    Ping,
    Predict,
    Reply,
    ServiceRequest,
    Trained,
)
from flow_nexus_neural.protocol.messages import Weights as WeightsReply
from flow_nexus_neural.protocol.plan import InputSpec
from tests.doubles.joined_node import granted_node
from tests.doubles.message_examples import EXAMPLES
from tests.unit.node.building import (
    FLAT,
    SEQUENCE,
    ask,
    never,
    plan_of,
    rows,
    service_with,
    train_request,
)

DENSE = [{"type": "dense", "units": 6, "activation": "tanh"}]
NOISY = [
    {"type": "lstm", "units": 4, "dropout": 0.2, "return_sequences": True},
    {"type": "attention", "heads": 2, "key_dim": 3, "dropout": 0.2},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 4},
]


def test_a_built_network_reports_its_size_and_the_digest_of_its_weights():
    plan = plan_of(NOISY)
    service = NodeService(node_id="n", incarnation=1, seed=0)
    built, _ = ask(service, Build(network="net", plan=plan, seed=4))
    reply, arrays = ask(service, GetWeights(network="net"))
    assert isinstance(built, Built)
    assert isinstance(reply, WeightsReply)
    assert (built.n_params, built.n_buffers) == (plan.n_params, plan.n_buffers)
    assert reply.digest == built.digest == weights_digest(plan, **arrays)


def test_the_weights_that_are_handed_out_are_a_copy():
    service, *_ = service_with(plan_of(DENSE, FLAT))
    _, first = ask(service, GetWeights(network="net"))
    first["params"][:] = 9.0
    _, second = ask(service, GetWeights(network="net"))
    assert not np.any(second["params"] == 9.0)


def test_training_publishes_a_new_state_whose_digest_it_names():
    plan = plan_of(NOISY)
    service, state, published, _, _ = service_with(plan)
    reply, arrays = ask(service, train_request())
    assert isinstance(reply, Trained)
    assert arrays == {}
    assert (reply.steps, reply.opt_step) == (3, 3)
    assert reply.loss is not None
    assert reply.cpu_s > 0
    assert reply.digest == weights_digest(plan, published["params"], published["buffers"])
    assert not np.array_equal(published["params"], state["params"])
    assert np.any(published["m"] != 0)
    assert np.any(published["v"] != 0)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad"])
def test_only_the_moments_of_the_optimiser_are_needed(optimizer):
    service, _, published, _, _ = service_with(plan_of(DENSE, FLAT), optimizer=optimizer)
    ask(service, train_request(optimizer=optimizer))
    assert all(np.isfinite(vector).all() for vector in published.values())


def test_training_leaves_base_shard_and_serving_copy_as_they_were():
    service, state, _, x, y = service_with(plan_of(NOISY))
    before = [array.copy() for array in (*state.values(), x, y)]
    _, serving = ask(service, GetWeights(network="net"))
    ask(service, train_request())
    for old, new in zip(before, (*state.values(), x, y), strict=True):
        np.testing.assert_array_equal(old, new)
    _, later = ask(service, GetWeights(network="net"))
    np.testing.assert_array_equal(serving["params"], later["params"])


def test_a_trained_state_serves_after_it_is_loaded():
    plan = plan_of(NOISY)
    service, _, published, x, _ = service_with(plan)
    trained, _ = ask(service, train_request())
    before, old = ask(service, Predict(network="net"), {"x": x})
    service.attach("version-1", published, writable=False)
    loaded, _ = ask(service, Load(network="net", region="version-1"))
    after, new = ask(service, Predict(network="net"), {"x": x})
    assert isinstance(loaded, Loaded)
    assert loaded.digest == trained.digest == after.digest != before.digest
    assert not np.array_equal(old["y"], new["y"])


def test_infer_judges_other_weights_without_touching_the_serving_copy():
    service, _, published, x, _ = service_with(plan_of(NOISY))
    ask(service, train_request())
    service.attach("candidate", published, writable=False)
    _, before = ask(service, Predict(network="net"), {"x": x})
    reply, judged = ask(service, Infer(network="net", weights="candidate", data="shard"))
    _, after = ask(service, Predict(network="net"), {"x": x})
    assert reply == Outputs(digest=None)
    np.testing.assert_array_equal(before["y"], after["y"])
    ask(service, Load(network="net", region="candidate"))
    _, loaded = ask(service, Predict(network="net"), {"x": x})
    np.testing.assert_array_equal(judged["y"], loaded["y"])


def test_a_prediction_during_training_comes_from_the_serving_copy():
    service, _, _, x, _ = service_with(plan_of(NOISY), count=64)
    before, expected = ask(service, Predict(network="net"), {"x": x[:1]})
    seen = []

    def poll():
        seen.append(ask(service, Predict(network="net"), {"x": x[:1]}))
        return False

    reply, _ = ask(service, train_request(), poll=poll)
    assert len(seen) == reply.steps == 8
    for answer, arrays in seen:
        assert answer.digest == before.digest
        np.testing.assert_array_equal(arrays["y"], expected["y"])


def test_what_is_served_between_steps_does_not_change_what_is_trained():
    plan = plan_of(NOISY)
    undisturbed, _, quiet, _, _ = service_with(plan)
    ask(undisturbed, train_request(feature_dropout=0.2))
    disturbed, _, noisy, x, _ = service_with(plan, seed=99)

    def poll():
        torch.rand(3)
        ask(disturbed, Predict(network="net"), {"x": x})
        ask(disturbed, Ping())
        return False

    ask(disturbed, train_request(feature_dropout=0.2), poll=poll)
    for name, vector in quiet.items():
        np.testing.assert_array_equal(vector, noisy[name])


def test_a_cancelled_training_ends_at_its_next_step_and_publishes_nothing():
    service, _, published, _, _ = service_with(plan_of(DENSE, FLAT), count=64)
    polls = []

    def poll():
        polls.append(1)
        return len(polls) == 3

    reply, _ = service.handle(train_request(), {}, poll)
    assert isinstance(reply, Failed)
    assert reply.type == "cancelled"
    assert ask(service, Ping())[0].steps_done == 3
    assert all(np.isnan(vector).all() for vector in published.values() if vector.size)


def test_a_cancel_served_between_two_steps_ends_the_training_too():
    service, *_ = service_with(plan_of(DENSE, FLAT), count=64)

    def poll():
        assert ask(service, Cancel())[0] == Done()
        return False

    reply, _ = service.handle(train_request(), {}, poll)
    assert isinstance(reply, Failed)
    assert reply.type == "cancelled"
    assert ask(service, Ping())[0].steps_done == 1
    reply, _ = ask(service, train_request())  # the cancel is used up
    assert reply.steps == 8


def test_an_inference_can_be_cancelled_between_its_batches():
    spec = InputSpec(vector_length=400, n_scalars=1)
    plan = plan_of([{"type": "global_average_pooling1d"}], spec)
    service, *_ = service_with(plan, count=20)
    polls = []

    def poll():
        polls.append(1)
        return len(polls) == 2

    reply, _ = service.handle(Infer(network="net", weights="base", data="shard"), {}, poll)
    assert isinstance(reply, Failed)
    assert reply.type == "cancelled"
    assert len(polls) == 2


def test_one_long_request_at_a_time():
    service, _, published, _, _ = service_with(plan_of(DENSE, FLAT))
    kinds = []

    def poll():
        for request in (
            train_request(),
            Infer(network="net", weights="base", data="shard"),
            Load(network="net", region="base"),
            GetWeights(network="net"),
            Build(network="net", plan=plan_of(DENSE, FLAT), seed=1),
        ):
            reply, _ = service.handle(request, {}, never)
            assert isinstance(reply, Failed)
            kinds.append(reply.type)
        return False

    ask(service, train_request(), poll=poll)
    assert set(kinds) == {"busy"}
    assert len(kinds) == 15
    assert np.isfinite(published["params"]).all()


def test_ping_tells_what_runs_and_how_far_it_is():
    service, *_ = service_with(plan_of(DENSE, FLAT))
    idle, _ = ask(service, Ping())
    assert (idle.busy, idle.steps_done, idle.longest_step_ms) == (None, 0, 0.0)
    pongs = []

    def poll():
        pongs.append(ask(service, Ping())[0])
        return False

    ask(service, train_request(), poll=poll)
    assert [(pong.busy, pong.steps_done) for pong in pongs] == [("train", n) for n in (1, 2, 3)]
    assert pongs[-1].longest_step_ms >= pongs[0].longest_step_ms > 0
    ask(service, train_request())
    last, _ = ask(service, Ping())
    assert (last.busy, last.steps_done) == (None, 6)


def test_granted_memory_may_be_read_only_and_of_any_alignment():
    plan = plan_of(NOISY)
    service, state, _, x, y = service_with(plan)

    def frozen(array):
        raw = np.zeros(array.nbytes + 1, np.uint8)
        raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
        view = np.frombuffer(raw.data, array.dtype, array.size, 1).reshape(array.shape)
        view.flags.writeable = False
        return view

    service.attach("base", {name: frozen(array) for name, array in state.items()}, writable=False)
    service.attach("shard", {"x": frozen(x), "y": frozen(y)}, writable=False)
    ask(service, train_request())
    ask(service, Load(network="net", region="base"))
    ask(service, Infer(network="net", weights="base", data="shard"))
    _, arrays = ask(service, Predict(network="net"), {"x": frozen(x)})
    assert arrays["y"].shape == (20, 1)


def test_regions_stay_usable_for_a_running_request_after_they_are_forgotten():
    service, _, published, _, _ = service_with(plan_of(DENSE, FLAT))

    def poll():
        service.detach(["base", "shard", "publish", "never held"])
        return False

    ask(service, train_request(), poll=poll)
    assert np.isfinite(published["params"]).all()
    reply, _ = service.handle(train_request(), {}, never)
    assert isinstance(reply, Failed)
    assert reply.type == "LookupError"


def _changed(region, **changes):
    return {name: array for name, array in (region | changes).items() if array is not None}


MISFITS = {
    "no params": ("base", {"params": None}),
    "short params": ("base", {"params": np.zeros(3, np.float32)}),
    "double params": ("base", {"params": np.zeros(43, np.float64)}),
    "params with two axes": ("base", {"params": np.zeros((43, 1), np.float32)}),
    "no moment": ("base", {"v": None}),
    "narrow rows": ("shard", {"x": np.zeros((20, 4), np.float32)}),
    "no rows": ("shard", {"x": np.zeros((0, 5), np.float32), "y": np.zeros(0, np.float32)}),
    "fewer targets": ("shard", {"y": np.zeros(19, np.float32)}),
    "whole-number targets": ("shard", {"y": np.zeros(20, np.int64)}),
    "targets beyond 1": ("shard", {"y": np.full(20, 2, np.float32)}),
    "targets that are no numbers": ("shard", {"y": np.full(20, np.nan, np.float32)}),
    "short publish": ("publish", {"m": np.zeros(3, np.float32)}),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_region_that_does_not_fit_the_plan_fails_the_request_and_writes_nothing(misfit):
    plan = plan_of(DENSE, FLAT)
    assert plan.n_params == 43
    service, state, published, x, y = service_with(plan)
    key, changes = MISFITS[misfit]
    held = {"base": state, "publish": published, "shard": {"x": x, "y": y}}[key]
    service.attach(key, _changed(held, **changes), writable=key == "publish")
    reply, _ = service.handle(train_request(), {}, never)
    assert isinstance(reply, Failed)
    assert reply.type == "ValueError"
    assert key in reply.message
    assert np.isnan(published["params"]).all()


def test_class_numbers_outside_the_classes_are_refused():
    # torch would skip class -100 without a word.
    service, _, _, x, y = service_with(plan_of(DENSE, FLAT, "multiclass"))
    for label in (-100, 3):
        service.attach("shard", {"x": x, "y": np.where(y == 0, label, y)}, writable=False)
        reply, _ = service.handle(train_request(), {}, never)
        assert isinstance(reply, Failed)
        assert reply.type == "ValueError"


def test_a_buffer_that_was_not_granted_for_writing_is_not_written():
    service, _, published, _, _ = service_with(plan_of(DENSE, FLAT))
    service.attach("publish", published, writable=False)
    reply, _ = service.handle(train_request(), {}, never)
    assert isinstance(reply, Failed)
    assert "not granted for writing" in reply.message


def test_a_node_holds_a_bounded_number_of_networks_and_may_replace_them():
    service = NodeService(node_id="n", incarnation=1, seed=0)
    plan = plan_of(DENSE, FLAT)
    for number in range(MAX_NETWORKS):
        ask(service, Build(network=f"net-{number}", plan=plan, seed=1))
    reply, _ = service.handle(Build(network="one more", plan=plan, seed=1), {}, never)
    assert isinstance(reply, Failed)
    ask(service, Build(network="net-0", plan=plan_of(NOISY), seed=1))
    _, arrays = ask(service, Predict(network="net-0"), {"x": rows(2, SEQUENCE)})
    assert arrays["y"].shape == (2, 1)


def test_a_plan_that_cannot_be_computed_fails_and_replaces_nothing():
    service, _, _, x, _ = service_with(plan_of(DENSE, FLAT))
    wrong = plan_of(DENSE, FLAT).model_copy(update={"n_outputs": 3})
    reply, _ = service.handle(Build(network="net", plan=wrong, seed=1), {}, never)
    assert isinstance(reply, Failed)
    assert ask(service, Predict(network="net"), {"x": x})[1]["y"].shape == (20, 1)


def test_rows_predicted_in_chunks_equal_rows_predicted_at_once(monkeypatch):
    service, _, _, x, _ = service_with(plan_of(DENSE, FLAT), count=50)
    _, whole = ask(service, Predict(network="net"), {"x": x})
    monkeypatch.setattr("flow_nexus_neural.node.network.CHUNK_ROWS", 7)
    _, parts = ask(service, Predict(network="net"), {"x": x})
    np.testing.assert_allclose(parts["y"], whole["y"], rtol=1e-5, atol=1e-6)


def test_denormal_numbers_are_flushed_inside_a_request_and_kept_outside():
    service, state, published, _, _ = service_with(plan_of(DENSE, FLAT))
    state["m"][:] = 1e-39
    state["params"][:] = 0.0
    service.attach("base", state, writable=False)
    seen = []

    def poll():
        seen.append(float(torch.full((1,), 1e-39).mul(0.9)))
        return False

    ask(service, train_request(), poll=poll)
    assert set(seen) == {0.0}
    assert float(torch.full((1,), 1e-39).mul(0.9)) > 0.0
    assert not np.any((published["m"] != 0) & (np.abs(published["m"]) < 1.2e-38))


# What a node may be sent by a peer that has gone wrong: any request, any regions, any arrays.

ARRAYS = st.dictionaries(
    st.sampled_from(["x", "y", "params", "buffers", "m", "v"]),
    st.builds(
        np.full,
        st.sampled_from([(), (0,), (1,), (43,), (3, 5), (20, 5), (2, 3, 4)]),
        st.sampled_from([0.0, 1.0, np.nan, np.inf]),
        st.sampled_from([np.float32, np.float64]),
    ),
    max_size=6,
)
NAMES = st.sampled_from(["net", "base", "shard", "publish", "odd", ""])
REQUESTS = st.one_of(
    st.just(Ping()),
    st.just(Cancel()),
    st.builds(GetWeights.model_construct, network=NAMES),
    st.builds(Predict.model_construct, network=NAMES),
    st.builds(Load.model_construct, network=NAMES, region=NAMES),
    st.builds(Infer.model_construct, network=NAMES, weights=NAMES, data=NAMES),
    st.builds(
        train_request().model_copy,
        update=st.fixed_dictionaries(
            {"base": NAMES, "shard": NAMES, "publish": NAMES},
            optional={
                "optimizer": st.sampled_from(["adam", "sgd", "lion", None]),
                "batch_size": st.sampled_from([0, 1, 7, 4096]),
                "dropout_seed": st.sampled_from([-1, 0, 2**64]),
                "passes": st.sampled_from([(), (Pass(order_seed=1, start=9),), None]),
            },
        ),
    ),
    st.builds(
        Build.model_construct,
        network=NAMES,
        plan=st.sampled_from([None, plan_of(DENSE, FLAT).model_copy(update={"layers": ()})]),
        seed=st.integers(-1, 3),
    ),
    st.sampled_from([None, 7, "train", object(), Failed(type="t", message="m")]),
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(requests=st.lists(st.tuples(REQUESTS, ARRAYS), max_size=4), odd=ARRAYS)
def test_whatever_is_asked_the_service_answers_and_goes_on(requests, odd):
    service, _, _, x, _ = service_with(plan_of(DENSE, FLAT))
    service.attach("odd", odd, writable=True)
    for request, arrays in requests:
        reply, _ = service.handle(request, arrays, never)
        TypeAdapter(Reply).validate_python(reply)
    assert ask(service, Ping())[0].busy is None
    assert ask(service, Predict(network="net"), {"x": x})[1]["y"].shape == (20, 1)


@pytest.mark.anyio
async def test_the_service_answers_every_request_as_the_requests_class_says():
    node, publish = await granted_node(NodeService(node_id="n", incarnation=1, seed=0))
    for request, arrays in EXAMPLES:
        if request.kind in ("ask_mask_shares", "ask_masked", "ask_unmasking"):
            continue  # they need the keys of others: see test_masking
        if request.kind == "host":
            continue  # of processes that serve several nodes: see test_hosting
        reply, _ = await node.call(request, arrays)
        assert type(reply) is request.reply_class()
    assert publish.copy()["params"].any()


def test_of_two_long_requests_the_second_is_refused_and_all_others_are_answered():
    service, *_ = service_with(plan_of(DENSE, FLAT))
    met = {}

    def meanwhile():
        for request, arrays in EXAMPLES:
            if isinstance(request, ServiceRequest) and request.kind != "cancel":
                reply, _ = service.handle(request, arrays, never)
                met[request.kind] = isinstance(reply, Failed) and reply.type == "busy"
        return False

    ask(service, train_request(), poll=meanwhile)
    assert met == {
        request.kind: request.is_long
        for request, _ in EXAMPLES
        if isinstance(request, ServiceRequest) and request.kind != "cancel"
    }
