"""Arguments of Keras' layers that layers here lack: read at Keras' default, refused at any other value.

What Keras writes (`get_config`, `to_json`) names every argument of a layer, most of them at their defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.networks.spelling import fold, shown

_NOTHING: Final = ("none", "null", "")
_GLOROT: Final[dict[str, JsonValue]] = {
    "scale": 1.0, "mode": "fan_avg", "distribution": "uniform",
}  # fmt: skip
"""`VarianceScaling` with these arguments is `glorot_uniform`, and older versions write it so."""


@dataclass(frozen=True, slots=True)
class FixedArgument:
    """An argument with one value.

    Attributes:
        default: The value.
        others: Values that mean the same here.
        same_as: The argument of the layer that it must equal where it is given.
    """

    name: str
    default: JsonValue = None
    others: tuple[JsonValue, ...] = ()
    same_as: str | None = None

    def allows(self, value: JsonValue, layer: Mapping[str, JsonValue]) -> bool:
        """Whether a value changes nothing.

        Args:
            value: As written.
            layer: The layer's own arguments, parsed.
        """
        if value is None:
            return True
        allowed = (self.default, *self.others, *([layer.get(self.same_as)] if self.same_as else []))
        return any(_is_same(value, one) for one in allowed)

    def remark(self, value: JsonValue) -> str | None:
        """What the caller should know of a value that is allowed; None if nothing."""
        del value
        return None

    def only(self) -> str:
        """The value, for errors: `use_bias=true`."""
        return f"{self.name}={self.same_as or shown(self.default)}"


@dataclass(frozen=True, slots=True)
class InitializerArgument(FixedArgument):
    """How a tensor starts: a name, or an object as Keras writes it."""

    @override
    def allows(self, value: JsonValue, layer: Mapping[str, JsonValue]) -> bool:
        """See `FixedArgument.allows`."""
        if not isinstance(value, dict):
            return FixedArgument.allows(self, value, layer)
        name, config = value.get("class_name"), value.get("config")
        if not isinstance(name, str) or not isinstance(config, dict | None):
            return False
        given = {key: one for key, one in (config or {}).items() if one is not None}
        given.pop("seed", None)
        if fold(name) == "variancescaling" and self.default == "glorot_uniform":
            return given == _GLOROT
        gain = given.pop("gain", 1.0)
        return fold(name) == fold(str(self.default)) and not given and _is_same(gain, 1.0)

    @override
    def remark(self, value: JsonValue) -> str | None:
        """See `FixedArgument.remark`."""
        config = value.get("config") if isinstance(value, dict) else None
        seeded = isinstance(config, dict) and config.get("seed") is not None
        return f"the seed of {self.name} has no effect: {_SEEDED}" if seeded else None


@dataclass(frozen=True, slots=True)
class IgnoredArgument(FixedArgument):
    """An argument that changes no result, so that every value is allowed."""

    @override
    def allows(self, value: JsonValue, layer: Mapping[str, JsonValue]) -> bool:
        """See `FixedArgument.allows`."""
        del value, layer
        return True


@dataclass(frozen=True, slots=True)
class SeedArgument(IgnoredArgument):
    """A layer's own seed."""

    @override
    def remark(self, value: JsonValue) -> str | None:
        """See `FixedArgument.remark`."""
        return None if value is None else f"{self.name} has no effect: {_SEEDED}"


@dataclass(frozen=True, slots=True)
class DtypeArgument(FixedArgument):
    """The type of a layer's numbers: a name, or a policy as Keras writes it."""

    @override
    def allows(self, value: JsonValue, layer: Mapping[str, JsonValue]) -> bool:
        """See `FixedArgument.allows`."""
        config = value.get("config") if isinstance(value, dict) else None
        name = config.get("name") if isinstance(config, dict) else value
        return FixedArgument.allows(self, name, layer)


_SEEDED: Final = "the seed of the cluster and of the training decide all that is drawn"

FIXED_COMMON: Final[tuple[FixedArgument, ...]] = (
    DtypeArgument("dtype", "float32"),
    FixedArgument("activity_regularizer"),
    IgnoredArgument("module"),
    IgnoredArgument("registered_name"),
    IgnoredArgument("build_config"),
    IgnoredArgument("shared_object_id"),
    FixedArgument("dynamic", default=False),
)
"""Those of every layer."""

LAST_CHANNELS: Final = FixedArgument("data_format", "channels_last")
LAST_AXIS: Final = FixedArgument("axis", -1)
SEED: Final = SeedArgument("seed")


def none_of(*tensors: str) -> tuple[FixedArgument, ...]:
    """Neither regularizer nor constraint of these tensors."""
    return tuple(
        FixedArgument(f"{tensor}_{kind}")
        for tensor in tensors
        for kind in ("regularizer", "constraint")
    )


KERNEL_AND_BIAS: Final[tuple[FixedArgument, ...]] = (
    InitializerArgument("kernel_initializer", "glorot_uniform"),
    InitializerArgument("bias_initializer", "zeros"),
    *none_of("kernel", "bias"),
)
GAMMA_AND_BETA: Final[tuple[FixedArgument, ...]] = (
    FixedArgument("center", default=True),
    FixedArgument("scale", default=True),
    InitializerArgument("beta_initializer", "zeros"),
    InitializerArgument("gamma_initializer", "ones"),
    *none_of("beta", "gamma"),
)


def _is_same(value: JsonValue, default: JsonValue) -> bool:
    """Whether a value means the default, in any of the spellings that arguments may have."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(default, str):
        return isinstance(value, str) and fold(value) == fold(default)
    if default is None:
        return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)
    if isinstance(default, bool):
        return isinstance(value, bool | str | int) and str(value).lower() in _WORDS[default]
    try:
        return not isinstance(value, bool | list | dict) and float(value or 0) == default
    except ValueError:
        return False


_WORDS: Final = {True: ("true", "yes", "on", "1"), False: ("false", "no", "off", "0")}
