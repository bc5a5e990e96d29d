"""DP-SGD held against Opacus: clipped sums to 1e-5, epsilon to 1 %."""

import pytest
import torch

from flow_nexus_neural.coordination.privacy.accountant import Sums, epsilon_of
from flow_nexus_neural.node.example_gradients import ExampleGradients
from flow_nexus_neural.node.losses import loss_of
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import views_of
from tests.unit.node.building import FLAT, SEQUENCE, plan_of, rows, weights_of

pytest.importorskip("opacus")


class Convolved(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = torch.nn.Conv1d(3, 4, 3), torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2).flatten(1))


def by_opacus(module, x, y, clip):
    """The clipped sum of each parameter, by name."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    wrapped = GradSampleModule(module)
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=0.1),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=len(x),
    )
    torch.nn.functional.cross_entropy(wrapped(x), y).backward()
    optimizer.clip_and_accumulate()
    return {name: p.summed_grad for name, p in module.named_parameters()}


def ours(layers, spec, clip):
    plan = plan_of(layers, spec, "multiclass")
    weights, x = weights_of(plan), torch.from_numpy(rows(9, spec))
    y = torch.arange(9) % 3
    network = Network(plan)
    made = ExampleGradients(network, weights, loss_of(plan, ()))
    total, _ = made.clipped_sum(x, y, clip, torch.Generator())
    own = views_of(weights.params, plan.trainable)
    return own, views_of(total, plan.trainable), network.entered(x), y


def turned(kernel):
    """A kernel as torch's modules have it: their axes are the other way round."""
    return kernel.permute(*range(kernel.dim())[::-1])


DENSE = [{"type": "dense", "units": 6, "activation": "tanh"}]
CONVOLVED = [
    {"type": "conv1d", "filters": 4, "kernel_size": 3, "activation": "relu"},
    {"type": "flatten"},
]


def dense():
    return torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clip", [0.3, 100.0])
@pytest.mark.parametrize(
    ("layers", "spec", "module", "names"),
    [
        (DENSE, FLAT, dense, {"0": "layers.0", "2": "head"}),
        (CONVOLVED, SEQUENCE, Convolved, {"conv": "layers.0", "out": "head"}),
    ],
    ids=["dense", "convolution"],
)
def test_clipped_sums_are_those_of_opacus(layers, spec, module, names, clip):
    weights, mine, x, y = ours(layers, spec, clip)
    theirs = module()
    for there, here in names.items():
        layer = theirs.get_submodule(there)
        with torch.no_grad():
            layer.weight.copy_(turned(weights[f"{here}.kernel"]))
            layer.bias.copy_(weights[f"{here}.bias"])
    found = by_opacus(theirs, x, y, clip)
    squares = size = 0.0
    for there, here in names.items():
        for own, other in (
            (turned(mine[f"{here}.kernel"]), found[f"{there}.weight"]),
            (mine[f"{here}.bias"], found[f"{there}.bias"]),
        ):
            squares += float((own - other).square().sum())
            size += float(other.square().sum())
    assert squares**0.5 < 1e-5 * size**0.5


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [
        (1.1, 0.01, 1000, 1e-5),
        (0.8, 0.2, 40, 1e-6),
        (4.0, 0.5, 300, 1e-5),
        (2.0, 0.003, 9000, 1e-7),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_epsilon_is_that_of_opacus(noise, rate, steps, delta):
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise, rate, steps)]
    mine = epsilon_of([Sums(noise, steps, rate, "record")], delta)
    assert mine == pytest.approx(accountant.get_epsilon(delta), rel=0.01)
