"""Typed reading of a planned layer's arguments.

The planner has checked them already, but a plan is data from another process, so the node checks again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import JsonValue

from flow_nexus_neural.protocol.plan import PlannedLayer


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one layer, and its name in error messages."""

    values: Mapping[str, JsonValue]
    subject: str

    @classmethod
    def of(cls, layer: PlannedLayer) -> Self:
        """The arguments of `layer`, which errors name by its position in the layer list."""
        place = "head" if layer.index is None else f"layers[{layer.index}]"
        return cls(layer.args, f"{place} {layer.type}")

    def integer(self, name: str, *, at_least: int = 1) -> int:
        """Return an integer argument.

        Raises:
            ValueError: If it is missing, not an integer or below `at_least`.
        """
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise ValueError(f"{self.subject}: {name}={value!r} is no integer >= {at_least}")
        return value

    def number(self, name: str, *, at_least: float = 0.0, below: float = float("inf")) -> float:
        """Return a finite number in [at_least, below).

        Raises:
            ValueError: If it is missing, not a number or out of range.
        """
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.subject}: {name}={value!r} is no number")  # noqa: TRY004 - a bad plan, not a bad call
        if not at_least <= value < below:
            raise ValueError(f"{self.subject}: {name}={value!r} is outside [{at_least}, {below})")
        return float(value)

    def boolean(self, name: str) -> bool:
        """Return a boolean.

        Raises:
            ValueError: If it is missing or neither true nor false.
        """
        value = self._value(name)
        if not isinstance(value, bool):
            raise ValueError(f"{self.subject}: {name}={value!r} is neither true nor false")  # noqa: TRY004 - a bad plan
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Return a string that is one of `choices`.

        Raises:
            ValueError: If it is missing or none of `choices`.
        """
        value = self._value(name)
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{self.subject}: {name}={value!r} is none of {', '.join(choices)}")
        return value

    def nested(self, name: str) -> "Arguments":
        """Return the arguments of a layer nested in this one.

        Raises:
            ValueError: If it is missing or not an object.
        """
        value = self._value(name)
        if not isinstance(value, dict):
            raise ValueError(f"{self.subject}: {name}={value!r} is no layer")  # noqa: TRY004 - a bad plan
        return Arguments(value, f"{self.subject} {name}")

    def _value(self, name: str) -> JsonValue:
        if name not in self.values:
            raise ValueError(f"{self.subject}: argument {name} is missing from the plan")
        return self.values[name]
