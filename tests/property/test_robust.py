import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from flow_nexus_neural.kernels.gram import guarded
from flow_nexus_neural.kernels.robust import aggregate, centred_clipping

lean = settings(max_examples=80, derandomize=True, deadline=None)

RULES = ["krum", "multi_krum", "geometric_median", "mda", "smea", "caf"]
COORDINATE = ["median", "trimmed_mean", "meamed"]
ANYTHING = st.floats(width=32)


@st.composite
def honest_and_liars(draw):
    f = draw(st.integers(0, 2))
    n = 2 * f + draw(st.integers(1, 4))
    d = draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**31))
    honest = np.random.default_rng(seed).normal(size=(n - f, d)).astype(np.float32)
    liars = [draw(nps.arrays(np.float32, d, elements=ANYTHING)) for _ in range(f)]
    return honest, liars, f


@lean
@given(honest_and_liars(), st.sampled_from([*RULES, *COORDINATE]), st.booleans())
def test_whatever_liars_send_the_answer_is_finite_and_near(case, rule, mix):
    honest, liars, f = case
    finite = sum(bool(np.isfinite(liar).all()) for liar in liars)
    if len(honest) + finite <= 2 * f:
        return
    found = aggregate([*honest, *liars], rule, f, mix=mix).vector
    assert np.isfinite(found).all()
    reach = 20 * (1 + np.abs(honest).max())
    # With n = 2 f + 1 geometry alone bounds the answer by a multiple of the honest spread.
    assert np.linalg.norm(found - honest.mean(axis=0)) <= reach * np.sqrt(honest.shape[1])


@lean
@given(honest_and_liars(), st.sampled_from(["median", "trimmed_mean"]))
def test_coordinate_rules_stay_inside_the_honest_range(case, rule):
    honest, liars, f = case
    liars = [np.nan_to_num(liar, nan=0.0) for liar in liars]
    rows = guarded([*honest, *liars])
    scaled = honest * rows.scales[: len(honest), None].astype(np.float32)
    found = aggregate([*honest, *liars], rule, f).vector
    assert (found >= scaled.min(axis=0) - 1e-5).all()
    assert (found <= scaled.max(axis=0) + 1e-5).all()


@lean
@given(
    nps.arrays(
        np.float32,
        st.tuples(st.integers(5, 8), st.integers(1, 6)),
        elements=st.floats(-9, 9, width=32),
    ),
    st.sampled_from(COORDINATE),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_rows_does_not_matter_to_a_coordinate_rule(x, rule, shuffler):
    order = list(range(len(x)))
    shuffler.shuffle(order)
    one, other = aggregate(list(x), rule, 2).vector, aggregate(list(x[order]), rule, 2).vector
    assert np.allclose(one, other, atol=1e-5)


@lean
@given(
    st.integers(0, 2**31),
    # Not mda: several subsets often share one largest distance, and then the index decides.
    st.sampled_from([rule for rule in RULES if rule != "mda"]),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_rows_does_not_matter_to_a_geometric_rule(seed, rule, shuffler):
    x = np.random.default_rng(seed).normal(size=(7, 9)).astype(np.float32)
    order = list(range(7))
    shuffler.shuffle(order)
    one, other = aggregate(list(x), rule, 2).vector, aggregate(list(x[order]), rule, 2).vector
    assert np.allclose(one, other, atol=1e-4)


@lean
@given(st.integers(0, 2**31), st.sampled_from([*RULES, *COORDINATE]), st.booleans())
def test_moving_all_rows_moves_the_answer_along(seed, rule, mix):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(7, 6)).astype(np.float32)
    shift = rng.normal(size=6).astype(np.float32)
    moved = aggregate(list(x + shift), rule, 2, mix=mix).vector
    assert np.allclose(moved, aggregate(list(x), rule, 2, mix=mix).vector + shift, atol=1e-3)


@lean
@given(
    st.lists(
        nps.arrays(np.float32, 4, elements=st.floats(-(2.0**99), 2.0**99, width=32)),
        min_size=1,
        max_size=6,
    )
)
def test_centred_clipping_never_moves_further_than_its_steps(vectors):
    assert np.linalg.norm(centred_clipping(vectors, tau=2.0, steps=3).astype(np.float64)) <= 6.01
