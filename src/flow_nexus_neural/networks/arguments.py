"""Types of layer arguments: each parses a value, checks its bounds and describes itself in errors.

MCP hosts may send numbers and booleans as strings, so `"256"`, `256.0` and `256` are the same integer here.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Final, Protocol

from pydantic import JsonValue

from flow_nexus_neural.networks.activations import ACTIVATION_ALIASES, ACTIVATIONS
from flow_nexus_neural.networks.spelling import did_you_mean, fold

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class UnusableValueError(ValueError):
    """The value is not valid; the message continues the text `units=0 ...`."""


class ArgumentKind(Protocol):
    """A type of argument value."""

    def read(self, value: JsonValue) -> JsonValue:
        """Parse a value to its canonical form.

        Raises:
            UnusableValueError: If `value` is not valid.
        """
        ...

    def describe(self) -> str:
        """Short description of type and bounds, for example `int 1-2048`."""
        ...


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def read(self, value: JsonValue) -> int:
        """See `ArgumentKind.read`."""
        number = _number(value)
        if number is None or (isinstance(number, float) and not number.is_integer()):
            raise UnusableValueError(f"is not a whole number ({self.describe()})")
        if not self.low <= number <= self.high:
            raise UnusableValueError(f"is outside {self.low}-{self.high}")
        return int(number)

    def describe(self) -> str:
        """See `ArgumentKind.describe`."""
        return f"int {self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number from `low` to `high`; `below` excludes `high` itself."""

    low: float
    high: float
    below: bool = False

    def read(self, value: JsonValue) -> float:
        """See `ArgumentKind.read`."""
        number = _number(value)
        if number is None:
            raise UnusableValueError(f"is not a finite number ({self.describe()})")
        inside = self.low <= number <= self.high and not (self.below and number == self.high)
        if not inside:
            raise UnusableValueError(f"is outside {self._range()}")
        return float(number)

    def describe(self) -> str:
        """See `ArgumentKind.describe`."""
        return f"number {self._range()}"

    def _range(self) -> str:
        text = f"{self.low:g}-{self.high:g}"
        return f"{text} ({self.high:g} excluded)" if self.below else text


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def read(self, value: JsonValue) -> bool:
        """See `ArgumentKind.read`."""
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower() if isinstance(value, str | int) else ""
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise UnusableValueError("is not true or false")

    def describe(self) -> str:
        """See `ArgumentKind.describe`."""
        return "true or false"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several names, matched without case and separators."""

    names: tuple[str, ...]
    aliases: dict[str, str] = field(default_factory=dict)

    def read(self, value: JsonValue) -> str:
        """See `ArgumentKind.read`."""
        if not isinstance(value, str):
            raise UnusableValueError(f"is not a name ({self.describe()})")
        known = {fold(name): name for name in self.names}
        known.update({fold(alias): name for alias, name in self.aliases.items()})
        found = known.get(fold(value))
        if found is None:
            near = did_you_mean(value, (*self.names, *self.aliases))
            raise UnusableValueError(f"is unknown{near or f' ({self.describe()})'}")
        return found

    def describe(self) -> str:
        """See `ArgumentKind.describe`."""
        return ", ".join(self.names)


@dataclass(frozen=True, slots=True)
class Text:
    """A short printable text."""

    longest: int

    def read(self, value: JsonValue) -> str:
        """See `ArgumentKind.read`."""
        if not isinstance(value, str) or not value.strip().isprintable():
            raise UnusableValueError(f"is not {self.describe()}")
        if not 1 <= len(value.strip()) <= self.longest:
            raise UnusableValueError(f"is not {self.describe()}")
        return value.strip()

    def describe(self) -> str:
        """See `ArgumentKind.describe`."""
        return f"a printable text of 1-{self.longest} characters"


@dataclass(frozen=True, slots=True)
class Dims:
    """A shape: a list of one to three sizes, a single size, or either as text; `null` sizes are unknown."""

    def read(self, value: JsonValue) -> JsonValue:
        """See `ArgumentKind.read`."""
        if isinstance(value, str):
            value = _from_text(value.replace("(", "[").replace(")", "]").replace("None", "null"))
        sizes = value if isinstance(value, list) else [value]
        if not 1 <= len(sizes) <= 3:
            raise UnusableValueError(f"is not {self.describe()}")
        size = Integer(1, 1 << 24)
        return [None if item is None else size.read(item) for item in sizes]

    def describe(self) -> str:
        """See `ArgumentKind.describe`."""
        return "a list of 1-3 sizes"


@dataclass(frozen=True, slots=True)
class Nested:
    """A nested layer, as an object or JSON text; the outer layer's type parses its content."""

    def read(self, value: JsonValue) -> JsonValue:
        """See `ArgumentKind.read`."""
        inner = _from_text(value) if isinstance(value, str) else value
        if not isinstance(inner, dict):
            raise UnusableValueError(f"is not {self.describe()}")
        return inner

    def describe(self) -> str:
        """See `ArgumentKind.describe`."""
        return "an object such as {'type': 'lstm', 'units': 64}"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a layer type.

    Attributes:
        default: Value if the argument is absent; unused if `required`.
        null_means: Value for an explicit `null`; if None, `null` counts as absent.
    """

    name: str
    kind: ArgumentKind
    aliases: tuple[str, ...] = ()
    default: JsonValue = None
    required: bool = False
    null_means: JsonValue = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every accepted spelling, the canonical one first."""
        return (self.name, *self.aliases)

    def describe(self) -> str:
        """Name and aliases, with a question mark if optional, for the hint of an error."""
        aliases = f" ({', '.join(self.aliases)})" if self.aliases else ""
        return f"{self.name}{'' if self.required else '?'}{aliases}"


def required(name: str, kind: ArgumentKind, *aliases: str) -> Argument:
    """An argument that must be given."""
    return Argument(name, kind, aliases, required=True)


def optional(name: str, kind: ArgumentKind, *aliases: str, default: JsonValue) -> Argument:
    """An argument with a default."""
    return Argument(name, kind, aliases, default=default)


FUNCTION: Final = Choice(ACTIVATIONS, ACTIVATION_ALIASES)
"""The name of an activation function."""

UNITS: Final = Integer(1, 2048)
"""Width of a layer's output."""

SPAN: Final = Integer(1, 64)
"""A number of steps."""

RATE: Final = Real(0, 1, below=True)
"""A dropout probability."""

EPSILON: Final = Real(1e-12, 1)
"""The constant that a normalisation adds to the variance."""


def activation(default: str, name: str = "activation") -> Argument:
    """An activation argument; `null` is the identity, as in Keras."""
    return Argument(name, FUNCTION, default=default, null_means="linear")


def _number(value: JsonValue) -> int | float | None:
    """Parse a finite number from a number or a text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value.strip()[:64])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):  # bool is a subclass of int
        return None
    if isinstance(value, int):
        return value
    return value if math.isfinite(value) else None


def _from_text(text: str) -> JsonValue:
    """Parse JSON text; return the text itself if it is not JSON."""
    try:
        value: JsonValue = json.loads(text[:4096])
    except (ValueError, RecursionError):
        return text
    return value
