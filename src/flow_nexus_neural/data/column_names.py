"""What the names of columns say: which words mean a time, a symbol, a price or an outcome."""

from collections.abc import Iterable, Sequence

TIME_NAMES = ("timestamp", "time", "date", "datetime")
SYMBOL_NAMES = ("symbol", "ticker", "asset")
PRICE_NAMES = ("price", "close")
VOLUME_NAMES = ("volume", "vol")
TARGET_NAMES = ("target", "label", "y", "class", "direction")
LABEL_LIKE = frozenset(
    {
        "trend",
        "label",
        "labels",
        "target",
        "targets",
        "y",
        "class",
        "outcome",
        "expectedoutcome",
        "expected_outcome",
        "direction",
    }
)
LABEL_LIKE_PREFIXES = ("future_", "next_")


def label_like(name: str) -> bool:
    """Whether a column's name says that it is an outcome, which is not known when predicting."""
    lowered = name.lower()
    return lowered in LABEL_LIKE or lowered.startswith(LABEL_LIKE_PREFIXES)


def first_named(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted names that occurs, in its own spelling."""
    lowered: dict[str, str] = {}
    for name in names:
        lowered.setdefault(name.lower(), name)
    return next((lowered[name] for name in wanted if name in lowered), None)
