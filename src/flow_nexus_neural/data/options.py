"""The data set that a training asks for, and the options that may follow its name after `#`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

from pydantic import JsonValue

from flow_nexus_neural.data.inline_text import inline_text
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.vocabulary import (
    DEFAULT_FOLDS,
    FOLDS,
    HORIZON,
    MIN_ROWS,
    SEED_LIMIT,
    TASK_KINDS,
    WINDOW,
    Label,
    TaskKind,
)


@dataclass(frozen=True)
class DataRequest:
    """What to train on.

    Attributes:
        dataset: A name, a path, inline JSON text or inline values.
        target: Label column.
        time_column: Column of moments.
        features: Columns to use; None means every usable one.
        exclude: Columns that are not used in any role.
        task: What the label is taken for: classes or numbers; None lets its values decide.
        window: Consecutive rows that form one sequence.
        horizon: Rows ahead from which the label is taken.
        positive_class: Of two classes the one whose probability is predicted; None for the usual one.
        seed: Seed of the stratified draw of the split.
        test_size: Rows of the test part: a share below 1, else a number of rows; None for the usual share.
        validation_size: As `test_size`, of the rows that the best round is chosen by; 0 for none.
        folds: Of a walk-forward split; None for the plain split.
        stacking: Whether rows are wanted by which several models are weighted or combined.
        admitting: Whether rows are wanted by which a learned combination is admitted.
        doubting: Whether rows are wanted from which it is learnt how sure decisions between classes are.
        refit: Whether the final model is to be trained again on all rows; None for time-ordered rows only.
    """

    dataset: str | dict[str, JsonValue] | list[JsonValue]
    target: str | None = None
    time_column: str | None = None
    features: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    task: TaskKind | None = None
    window: int | None = None
    horizon: int | None = None
    positive_class: Label | None = None
    seed: int = 0
    test_size: float | None = None
    validation_size: float | None = None
    folds: int | None = None
    stacking: bool = False
    admitting: bool = False
    doubting: bool = False
    refit: bool | None = None


@dataclass(frozen=True)
class SourceOptions:
    """Options that can only be given after the name of the data set.

    Attributes:
        rows: Rows per symbol of a generator.
        seed: Seed of a generator, or of the split of other data.
        embargo: Rows dropped after every cut.
    """

    rows: int | None = None
    seed: int | None = None
    embargo: int = 0


def read_options(request: DataRequest) -> tuple[DataRequest, SourceOptions]:
    """Read the options after a data set's name and remove them from it.

    Returns:
        The request with the suffix's options as if they had been arguments, and the others.

    Raises:
        InvalidArguments: If an option is unknown, out of range, or contradicts an argument.
    """
    check_range(request)
    dataset = request.dataset
    if not isinstance(dataset, str) or "#" not in dataset or inline_text(dataset) is not None:
        return request, SourceOptions()
    name, _, suffix = dataset.partition("#")
    found: dict[str, object] = {}
    for pair in filter(None, suffix.split("&")):
        key, _, text = pair.partition("=")
        key = ALIASES.get(key.strip(), key.strip())
        if key not in OPTIONS:
            raise InvalidArguments(
                f"data set option '{key[:40]}' is unknown", hint="options: " + ", ".join(OPTIONS)
            )
        if key in found:
            raise InvalidArguments(f"data set option '{key}' is given twice", hint="give it once")
        found[key] = OPTIONS[key](key, unquote(text).strip())
    merged = replace(request, dataset=name.strip(), **_merge(request, found))  # type: ignore[arg-type]
    check_range(merged)
    return merged, _source_options(found)


def check_range(request: DataRequest) -> None:
    """Refuse a window, horizon, number of folds, size or list of features that cannot be.

    Raises:
        InvalidArguments: If one is out of range.
    """
    for name, value, bounds in (
        ("window", request.window, WINDOW),
        ("horizon", request.horizon, HORIZON),
        ("folds", request.folds, FOLDS),
    ):
        if value is not None and not bounds.low <= value <= bounds.high:
            raise InvalidArguments(
                f"{name}={value} is outside {bounds.low}-{bounds.high}",
                hint=f"give {name} a whole number from {bounds.low} to {bounds.high}",
            )
    _check_sizes(request.test_size, request.validation_size)
    if request.features is not None and not request.features:
        raise InvalidArguments("features is empty", hint="leave it out to use all columns")


def _check_sizes(test_size: float | None, validation_size: float | None) -> None:
    sizes = {"test_size": test_size, "validation_size": validation_size}
    for name, size in sizes.items():
        if (
            size is None
            or (0 < size < 1)
            or (size >= 1 and math.isfinite(size) and size == math.floor(size))
        ):
            continue
        if size == 0 and name == "validation_size":
            continue
        raise InvalidArguments(
            f"{name}={size:g} is neither a share nor a number of rows",
            hint=f"give {name} a share of the rows between 0 and 1, such as 0.2, or a whole number of rows"
            + ("" if name == "test_size" else ", or 0 for none"),
        )
    shares = [size for size in sizes.values() if size is not None and size < 1]
    if sum(shares) >= 1:
        raise InvalidArguments(
            f"test_size={test_size:g} and validation_size={validation_size:g} leave nothing to train on",
            hint="give shares whose sum is below 1",
        )


def _merge(request: DataRequest, found: Mapping[str, object]) -> dict[str, object]:
    merged: dict[str, object] = {}
    found = _with_folds(request, found)
    for key in _ALSO_ARGUMENTS:
        if key not in found:
            continue
        argument = getattr(request, key)
        if argument is not None and argument != found[key]:
            raise InvalidArguments(
                f"{key} is {argument!r} as an argument and {found[key]!r} behind the data set's name",
                hint="give it once",
            )
        merged[key] = found[key]
    return merged


def _with_folds(request: DataRequest, found: Mapping[str, object]) -> dict[str, object]:
    """The options with the number of folds that `split` stands for, where none is given."""
    folds = found.get("folds", request.folds)
    split = found.get("split")
    if split == "default" and folds is not None:
        raise InvalidArguments(
            f"folds={folds} and split=default contradict each other", hint="leave one of them out"
        )
    if split == "walk_forward":
        folds = DEFAULT_FOLDS if folds is None else folds
    return {**found, **({} if folds is None else {"folds": folds})}


def _source_options(found: Mapping[str, object]) -> SourceOptions:
    rows, seed, embargo = (found.get(key) for key in ("rows", "seed", "embargo"))
    return SourceOptions(
        rows=rows if isinstance(rows, int) else None,
        seed=seed if isinstance(seed, int) else None,
        embargo=embargo if isinstance(embargo, int) else 0,
    )


def _text(key: str, text: str) -> str:
    if not text:
        raise InvalidArguments(f"data set option '{key}' is empty", hint=f"write {key}=NAME")
    return text


def _names(key: str, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InvalidArguments(f"data set option '{key}' is empty", hint=f"write {key}=A,B")
    return names


def _split_kind(key: str, text: str) -> str:
    kind = text.lower().replace("-", "_")
    if kind not in ("walk_forward", "default"):
        raise InvalidArguments(
            f"data set option '{key}' is '{text[:40]}'", hint="valid: default, walk_forward"
        )
    return kind


def _task(key: str, text: str) -> str:
    if text.lower() not in TASK_KINDS:
        raise InvalidArguments(
            f"data set option '{key}' is '{text[:40]}'", hint=f"valid: {', '.join(TASK_KINDS)}"
        )
    return text.lower()


def _integer(low: int, high: int) -> Callable[[str, str], int]:
    def read(key: str, text: str) -> int:
        digits = text.removeprefix("-")
        value = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
        if value is None or not low <= value <= high:
            raise InvalidArguments(
                f"data set option '{key}' is '{text[:40]}'",
                hint=f"give a whole number from {low} to {high}",
            )
        return value

    return read


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidArguments(
            f"data set option '{key}' is '{text[:40]}'", hint="give a number, such as 0.2"
        ) from None


OPTIONS: dict[str, Callable[[str, str], object]] = {
    "target": _text,
    "features": _names,
    "exclude": _names,
    "task": _task,
    "time_column": _text,
    "window": _integer(*WINDOW),
    "horizon": _integer(*HORIZON),
    "rows": _integer(MIN_ROWS, 1 << 40),
    "seed": _integer(0, SEED_LIMIT - 1),
    "split": _split_kind,
    "folds": _integer(*FOLDS),
    "test_size": _number,
    "validation_size": _number,
    "embargo": _integer(0, 10_000),
}
ALIASES = {"time": "time_column"}
_ALSO_ARGUMENTS = (
    "target", "time_column", "features", "exclude", "task", "window", "horizon", "folds", "test_size",
    "validation_size",
)  # fmt: skip
