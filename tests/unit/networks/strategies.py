"""Hypothesis strategies for layer lists."""

from hypothesis import strategies as st


def written_layers(layer_type):
    """Layers of a type as a caller may write them: any spelling, numbers as text, arguments left out."""
    values = {
        "Integer": st.integers(1, 8) | st.integers(1, 8).map(str),
        "Real": st.floats(0.1, 0.9) | st.floats(0.1, 0.9).map(str),
        "Flag": st.sampled_from([True, False, "true", "false"]),
        "Choice": None,
        "Text": st.sampled_from(["a", "b c"]),
        "Dims": st.lists(st.integers(1, 9), min_size=1, max_size=3),
        "Nested": st.just({"type": "gru", "units": 3}),
    }
    required, optional = {}, {}
    for argument in layer_type.accepted:
        strategy = values[type(argument.kind).__name__]
        if strategy is None:
            strategy = st.sampled_from(argument.kind.names)
        spelt = st.sampled_from(argument.names)
        (required if argument.required else optional)[argument.name] = st.tuples(spelt, strategy)
    chosen = st.fixed_dictionaries(required, optional=optional)
    return chosen.map(lambda pairs: {"type": layer_type.name, **dict(pairs.values())})
