"""Three made tables with text columns and gaps, as people have them: two kinds of classes and one number."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

Records = list[dict[str, JsonValue]]
CITIES: Final = ("Bern", "Oslo", "Lima", "Rome", "Kyiv")
PLANS: Final = ("basic", "plus", "pro")


def churn(rows: int = 1500, seed: int = 0) -> Records:
    """Two classes, by interactions of numbers with texts."""
    draw, people = _people(rows, seed)
    score, plan = people["score"], people["plan"]
    logit = 0.05 * (people["age"] - 40) * (plan == "pro") - 0.4 * np.log1p(people["tenure"])
    logit += 1.2 * score * np.where(people["city"] == "Oslo", -1, 1) + 0.8 * (plan == "basic") + 0.5
    label = np.where(logit + draw.logistic(0, 0.6, rows) > 0, "yes", "no")
    return _records(people | {"label": label}, draw, {"age": 0.1, "tenure": 0.08, "city": 0.05})


def segment(rows: int = 600, seed: int = 1) -> Records:
    """Four classes."""
    draw, people = _people(rows, seed)
    score, income = people["score"], 2 * (np.log(people["income"]) - 10)
    scores = [
        1.5 * score + income,
        -1.5 * score + 1.6 * (people["plan"] == "pro"),
        1.8 * np.abs(score) - 1 + 1.5 * (people["city"] == "Lima"),
        (people["age"] - 40) / 8,
    ]
    chosen = (np.stack(scores, axis=1) + draw.gumbel(0, 0.6, (rows, 4))).argmax(axis=1)
    label = np.array(["A", "B", "C", "D"])[chosen]
    return _records(people | {"class": label}, draw, {"income": 0.1, "score": 0.05, "plan": 0.05})


def price(rows: int = 1200, seed: int = 2) -> Records:
    """A number, neither linear in the inputs nor without noise."""
    draw, people = _people(rows, seed)
    score, city = people["score"], people["city"]
    value = 100 + 20 * np.sin(1.5 * score) + 3 * np.sqrt(people["tenure"])
    value += 10 * np.log(people["income"] / 22_000) * (people["plan"] == "pro")
    value += 8 * (city == "Rome") - 6 * (city == "Lima") * score + draw.normal(0, 6, rows)
    return _records(
        people | {"target": value.round(2)}, draw, {"age": 0.15, "tenure": 0.1, "city": 0.05}
    )


TABLES: Final[dict[str, Callable[[], Records]]] = {
    "churn": churn,
    "segment": segment,
    "price": price,
}


def _people(rows: int, seed: int) -> tuple[np.random.Generator, dict[str, NDArray[np.generic]]]:
    draw = np.random.Generator(np.random.PCG64(seed))
    return draw, {
        "age": draw.normal(40, 12, rows).round(1),
        "income": np.exp(draw.normal(10, 0.5, rows)).round(2),
        "score": draw.normal(0, 1, rows).round(3),
        "tenure": draw.exponential(5, rows).round(2),
        "city": draw.choice(CITIES, rows, p=[0.3, 0.25, 0.2, 0.15, 0.1]),
        "plan": draw.choice(PLANS, rows),
    }


def _records(
    columns: dict[str, NDArray[np.generic]], draw: np.random.Generator, gaps: dict[str, float]
) -> Records:
    """Rows as records; of each column in `gaps` that share of values is missing."""
    rows = len(next(iter(columns.values())))
    missing = {name: draw.random(rows) < share for name, share in gaps.items()}
    return [
        {
            name: None if name in missing and missing[name][row] else values[row].item()
            for name, values in columns.items()
        }
        for row in range(rows)
    ]
