"""Attention against the textbook form written out in numpy, and the absorbed form against it."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.layers.attention import attend, attend_from_last, sinusoids
from tests.unit.node.building import layer_and_parts

STEPS, WIDTH = 6, 5
X = np.random.default_rng(0).normal(size=(4, STEPS, WIDTH))


def _spec(**more):
    return {"type": "attention", "heads": 3, "key_dim": 2, **more}


def textbook(x, parts, *, causal=False, prefix="", mask=None):
    w = {name.removeprefix(prefix): part.numpy() for name, part in parts.items()}
    q, k, v = (
        np.einsum("ntc,chd->nhtd", x, w[f"{role}_kernel"]) + w[f"{role}_bias"][None, :, None]
        for role in ("query", "key", "value")
    )
    scores = np.einsum("nhtd,nhsd->nhts", q, k) / np.sqrt(q.shape[-1])
    if causal:
        scores[..., np.triu(np.ones((x.shape[1],) * 2, bool), 1)] = -np.inf
    attention = np.exp(scores - scores.max(-1, keepdims=True))
    attention /= attention.sum(-1, keepdims=True)
    if mask is not None:
        attention = attention * mask
    mixed = np.einsum("nhts,nhsd->nthd", attention, v)
    return np.einsum("nthd,hdc->ntc", mixed, w["output_kernel"]) + w["output_bias"]


@pytest.mark.parametrize("causal", [True, False])
def test_attention_follows_the_textbook(causal):
    layer, parts = layer_and_parts(_spec(causal=causal), (STEPS, WIDTH))
    found = layer(torch.from_numpy(X), parts, None)
    np.testing.assert_allclose(found, textbook(X, parts, causal=causal), atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_dropout_falls_on_the_attention_weights(causal):
    layer, parts = layer_and_parts(_spec(causal=causal, dropout=0.4), (STEPS, WIDTH))
    kept = torch.rand((4, 3, STEPS, STEPS), generator=torch.Generator().manual_seed(3)) >= 0.4
    found = layer(torch.from_numpy(X), parts, torch.Generator().manual_seed(3))
    expected = textbook(X, parts, causal=causal, mask=kept.numpy() / 0.6)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("causal", [True, False])
def test_the_absorbed_form_equals_the_last_step_of_the_textbook_form(causal):
    layer, parts = layer_and_parts(
        _spec(causal=causal), (STEPS, WIDTH), last_query_only=True, dtype=torch.float32
    )
    doubles = {name: part.double() for name, part in parts.items()}
    found = layer(torch.from_numpy(X).float(), parts, None)
    assert found.shape == (4, 1, WIDTH)
    np.testing.assert_allclose(found, textbook(X, doubles, causal=causal)[:, -1:], atol=1e-6)


def test_the_absorbed_form_has_the_gradients_of_the_textbook_form():
    _, parts = layer_and_parts(_spec(), (STEPS, WIDTH))
    leaves = {name: part.clone().requires_grad_() for name, part in parts.items()}
    x = torch.from_numpy(X).requires_grad_()
    upstream = torch.randn(
        4, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    wanted = [x, *(leaf for name, leaf in leaves.items() if name != "key_bias")]
    full = torch.autograd.grad(attend(x, leaves)[:, -1], [*wanted, leaves["key_bias"]], upstream)
    absorbed = torch.autograd.grad(attend_from_last(x, leaves), wanted, upstream)
    for mine, theirs in zip(absorbed, full[:-1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    # The key bias cancels in the softmax: its true gradient is 0, which is what not using it gives.
    assert float(full[-1].abs().max()) < 1e-12


def test_the_absorbed_form_weighs_the_value_bias_by_what_dropout_left():
    _, parts = layer_and_parts(_spec(), (STEPS, WIDTH))
    kept = torch.rand((4, 3, STEPS), generator=torch.Generator().manual_seed(3)) >= 0.4
    noise = torch.Generator().manual_seed(3)
    found = attend_from_last(torch.from_numpy(X), parts, dropout=0.4, noise=noise)
    mask = np.ones((4, 3, STEPS, STEPS))
    mask[:, :, -1] = kept.numpy() / 0.6
    np.testing.assert_allclose(found, textbook(X, parts, mask=mask)[:, -1], atol=1e-9)


def _norm(x, gamma, beta):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * gamma.numpy() + beta.numpy()


def test_a_transformer_encoder_is_pre_norm_attention_and_feed_forward_with_residuals():
    spec = {"type": "transformer_encoder", "heads": 2, "depth": 2, "ff_dim": 7, "dropout": 0.3}
    layer, parts = layer_and_parts(spec, (STEPS, 4))
    x = X[..., :4]
    expected = x
    for block in ("block0.", "block1."):
        p = {
            name.removeprefix(block): part for name, part in parts.items() if name.startswith(block)
        }
        normal = _norm(expected, p["attention_norm.gamma"], p["attention_norm.beta"])
        inner = {name: part for name, part in p.items() if name.startswith("attention.")}
        expected = expected + textbook(normal, inner, prefix="attention.")
        normal = _norm(expected, p["feed_forward_norm.gamma"], p["feed_forward_norm.beta"])
        hidden = normal @ p["feed_forward_in.kernel"].numpy() + p["feed_forward_in.bias"].numpy()
        out = np.maximum(hidden, 0) @ p["feed_forward_out.kernel"].numpy()
        expected = expected + out + p["feed_forward_out.bias"].numpy()
    np.testing.assert_allclose(layer(torch.from_numpy(x), parts, None), expected, atol=1e-10)


def test_an_encoder_of_which_the_last_step_is_read_computes_that_step_of_the_whole():
    spec = {"type": "transformer_encoder", "heads": 2, "depth": 2}
    whole, parts = layer_and_parts(spec, (STEPS, 4))
    last, _ = layer_and_parts(spec, (STEPS, 4), last_query_only=True)
    x = torch.from_numpy(X[..., :4])
    found = last(x, parts, None)
    assert found.shape == (4, 1, 4)
    torch.testing.assert_close(found, whole(x, parts, None)[:, -1:], rtol=1e-10, atol=1e-12)


def test_a_transformer_encoder_drops_out_only_while_training():
    layer, parts = layer_and_parts(
        {"type": "transformer_encoder", "heads": 2, "dropout": 0.5}, (6, 4)
    )
    x = torch.from_numpy(X[..., :4])
    quiet = layer(x, parts, None)
    assert torch.equal(quiet, layer(x, parts, None))
    assert not torch.allclose(quiet, layer(x, parts, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("width", [4, 5])
def test_positions_are_coded_by_sines_in_even_and_cosines_in_odd_columns(width):
    table = sinusoids(9, width).numpy()
    for p in range(9):
        for column in range(width):
            angle = p / 10_000 ** (2 * (column // 2) / width)
            expected = np.sin(angle) if column % 2 == 0 else np.cos(angle)
            assert table[p, column] == pytest.approx(expected, abs=1e-6)


def test_positional_encoding_adds_the_table():
    layer, parts = layer_and_parts({"type": "positional_encoding"}, (STEPS, WIDTH))
    found = layer(torch.from_numpy(X), parts, None)
    np.testing.assert_allclose(found, X + sinusoids(STEPS, WIDTH).numpy(), atol=1e-6)
