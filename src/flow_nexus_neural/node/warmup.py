"""Runs every operation of a node once in the zygote, before it forks, so that all modules are loaded.

A confined node cannot read a module from disk, and what is imported or compiled here is shared by every fork.
After `warm_up` no operation of a node adds to `sys.modules`.
"""

from collections.abc import Iterator
from itertools import cycle
from typing import Final, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from flow_nexus_neural.networks.layer_type import LayerType, SequenceUse, Signal, WrittenLayer
from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.networks.shapes import walk
from flow_nexus_neural.node.masking import MaskSession
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import (
    AskMasked,
    AskMaskKeys,
    AskMaskShares,
    AskUnmasking,
    Build,
    GetWeights,
    Infer,
    Load,
    MaskPeer,
    Pass,
    Ping,
    Predict,
    PrivateSteps,
    ServiceRequest,
    Train,
)
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import InputSpec, NetworkPlan
from flow_nexus_neural.vocabulary import Optimizer, Task

_WIDTH, _STEPS, _ROWS = 4, 6, 5
_INPUT = InputSpec(vector_length=_STEPS, n_scalars=2)

_SEQUENCE: Final = Signal(is_sequence=True, steps=_STEPS, width=_WIDTH)

_PRIVATE: Final = PrivateSteps(
    key="0" * 64,
    sampling_rate=1.0,
    steps=1,
    clip_norm=1.0,
    noise_multiplier=1.0,
    expected_rows=_ROWS,
)
_START: Final[WrittenLayer] = {"type": "dense", "units": _WIDTH}
_OF_ROWS: Final[tuple[tuple[WrittenLayer, ...], ...]] = (
    (_START,),
    ({"type": "lstm", "units": _WIDTH},),
)
"""Networks whose gradients of single rows are computed at once, and one by one."""
_KEEPS_STEPS: Final[WrittenLayer] = {"type": "positional_encoding"}
_READS_STEPS: Final[WrittenLayer] = {"type": "global_average_pooling1d"}


def warm_up() -> None:
    """Use one torch thread, then build, train, evaluate and serve every layer type, optimiser and task.

    Results are discarded. Afterwards no operation of a node imports anything.

    Raises:
        RuntimeError: If one of the operations fails: this installation cannot run nodes.
    """
    # One thread: a child forked after a multi-threaded OpenMP region hangs when it enters one itself.
    torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    for plan, optimizer in _exercises():
        _exercise(plan, optimizer)
    for layers in _OF_ROWS:
        _exercise(_plan(list(layers), "multiclass"), "sgd", of_rows=True)
    _mask_once()
    _fail_once()


def example_networks(kind: LayerType) -> Iterator[list[WrittenLayer]]:
    """Small networks around every example of a layer type, one for each way of computing it.

    In front of a layer that reads all steps, all its steps are computed; at the end of a sequence network
    possibly the last step only (a pointwise layer then gets a vector); a type that needs no sequence is also
    run on a vector.
    """
    pointwise = kind.sequence_use is SequenceUse.POINTWISE
    for chain in _chains(kind):
        if not pointwise:
            yield [_START, _KEEPS_STEPS, *chain]
        if _after(chain).is_sequence:
            yield [_START, _KEEPS_STEPS, *chain, _READS_STEPS]
        if not kind.needs_sequence:
            yield [_START, *chain]


def _chains(kind: LayerType) -> list[list[WrittenLayer]]:
    """The examples, stacked in one network where possible: fewer networks make the zygote start faster."""
    examples = list(kind.examples())
    one_shape = all(_after([example]) == _SEQUENCE for example in examples)
    if one_shape and kind.sequence_use is SequenceUse.POINTWISE:
        return [examples]
    return [[example] for example in examples]


def _after(layers: list[WrittenLayer]) -> Signal:
    """Output shape of these layers for the example sequence."""
    return walk(parse_layers(layers).layers, _SEQUENCE)[-1]


def _exercises() -> Iterator[tuple[NetworkPlan, Optimizer]]:
    """A plan for every example network, combined with optimisers and tasks in rotation."""
    optimizers, tasks = cycle(MOMENTS), cycle(get_args(Task))
    for kind in LAYER_TYPES.values():
        if kind.is_computed:
            for layers in example_networks(kind):
                yield _plan(layers, next(tasks)), next(optimizers)


def _plan(layers: list[WrittenLayer], task: Task) -> NetworkPlan:
    return plan_network(
        parse_layers(layers).layers,
        input=_INPUT,
        task=task,
        n_outputs=3 if task == "multiclass" else 1,
        max_parameters=100_000,
    ).plan


def _exercise(plan: NetworkPlan, optimizer: Optimizer, *, of_rows: bool = False) -> None:
    service = NodeService(node_id="warm-up", incarnation=0, seed=0)
    x = np.random.Generator(np.random.PCG64(0)).normal(size=(_ROWS, *plan.input.row_shape))
    rows = {"x": x.astype(np.float32)}
    y = np.arange(_ROWS) % 2
    targets = y if plan.task == "multiclass" else y.astype(np.float32)
    state = {"params": _vector(plan.n_params), "buffers": _vector(plan.n_buffers)}
    state |= {name: _vector(plan.n_params) for name in MOMENTS[optimizer]}
    service.attach("shard", rows | {"y": targets}, writable=False)
    service.attach("base", state, writable=False)
    service.attach("publish", {name: np.zeros_like(a) for name, a in state.items()}, writable=True)
    training = Train(
        network="main",
        base="base",
        opt_step=0,
        shard="shard",
        publish="publish",
        optimizer=optimizer,
        learning_rate=1e-3,
        batch_size=2,
        passes=(Pass(order_seed=2),),
        dropout_seed=3,
        feature_dropout=0.1,
    )
    private = (training.model_copy(update={"private": _PRIVATE}),) if of_rows else ()
    requests: tuple[ServiceRequest, ...] = (
        Build(network="main", plan=plan, seed=1),
        GetWeights(network="main"),
        Load(network="main", region="base"),
        training,
        *private,
        Infer(network="main", weights="publish", data="shard"),
        Predict(network="main"),
        Ping(),
    )
    for request in requests:
        _succeed(service, request, rows)


def _vector(size: int) -> NDArray[np.float32]:
    return np.full(size, 0.01, np.float32)


def _succeed(
    service: NodeService, request: ServiceRequest, arrays: dict[str, NDArray[np.float32]]
) -> None:
    reply, _ = service.handle(request, arrays, lambda: False)
    if reply.kind == "failed":
        raise RuntimeError(f"{request.kind} failed while warming up: {reply.type}: {reply.message}")


def _mask_once() -> None:
    """Take part in a secure sum of three, so that the ciphers are loaded."""
    slots = ("worker-0", "worker-1", "worker-2")
    sessions = [MaskSession.begin(AskMaskKeys(session="warm-up", slot=slot)) for slot in slots]
    peers = tuple(
        MaskPeer(slot=one.slot, masking=one.keys().masking, sealing=one.keys().sealing)
        for one in sessions
    )
    ask = AskMaskShares(session="warm-up", threshold=2, peers=peers)
    sealed = {one.slot: one.share(ask).sealed for one in sessions}
    own = {owner: shares[slots[0]] for owner, shares in sealed.items()}
    masked = AskMasked(session="warm-up", network="none", into="none", sealed=own, weight=0.5)
    sessions[0].write_masked(masked, _vector(3), np.empty(3, np.uint32))
    sessions[0].unmask(AskUnmasking(session="warm-up", delivered=slots))


def _fail_once() -> None:
    """Answer one failing request, since error handling loads modules too."""
    service = NodeService(node_id="warm-up", incarnation=0, seed=0)
    service.handle(Predict(network="none"), {}, lambda: False)
