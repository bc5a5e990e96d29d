"""What a caller may ask of privacy, and what is wrong with what was asked."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from flow_nexus_neural.coordination.privacy.accountant import Sums, Unit
from flow_nexus_neural.errors import InvalidArguments

DEFAULT_DELTA = 1e-5
DEFAULT_CLIP_NORM = 1.0
LEAST_CLIENTS = 2
Mode = Literal["central_dp", "record_dp"]
EXAMPLE = '{"mode": "central_dp", "target_epsilon": 8, "clip_norm": 1.0}'


def no_flag(value: object) -> object:
    """Refuse true and false where a number is asked for, as which they would be 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")  # noqa: TRY004  pydantic wants this
    return value


Number = Annotated[float, BeforeValidator(no_flag)]
Positive = Annotated[Number, Field(gt=0, le=1e6, allow_inf_nan=False)]


class AskedPrivacy(BaseModel):
    """The `privacy` of a training as it was asked for.

    Attributes:
        mode: `central_dp` protects all rows of a worker together, or of a client of the data that trains by
            itself; `record_dp` single rows.
        clip_norm: Largest L2 norm of a client's update, or of the gradient of a row, over all parameters
            together; with `adaptive` that of the first round.
        noise_multiplier: Standard deviation of the noise of a sum, in clipping norms.
        target_epsilon: What the planned rounds may cost; gives the noise multiplier instead.
        delta: Probability with which epsilon may not hold.
        adaptive: Whether the clipping norm follows the median of the updates' norms.
        max_epsilon: What all private trainings on this data set may cost together; None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    clip_norm: Positive = DEFAULT_CLIP_NORM
    noise_multiplier: Annotated[Number, Field(ge=1e-2, le=1e6, allow_inf_nan=False)] | None = None
    target_epsilon: Positive | None = None
    delta: Annotated[Number, Field(gt=0, lt=1)] = DEFAULT_DELTA
    adaptive: bool = False
    max_epsilon: Positive | None = None

    @model_validator(mode="after")
    def _one_noise(self) -> "AskedPrivacy":
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise ValueError("give either noise_multiplier or target_epsilon")
        if self.mode == "record_dp" and self.adaptive:
            raise ValueError("adaptive belongs to mode central_dp")
        return self


class PrivacySettings(BaseModel):
    """The `privacy` of a training as it takes effect; see `AskedPrivacy`.

    Attributes:
        sampling_rate: Probability with which each row is part of a step; 1 with `central_dp`.
        steps: Noised steps of one pass of a worker over its shard; 1 with `central_dp`: one sum a round.
        of_data: Whether clients are those of the data, each of which trains by itself, and not workers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    clip_norm: float
    noise_multiplier: float
    target_epsilon: float | None
    delta: float
    adaptive: bool
    max_epsilon: float | None
    sampling_rate: float = 1.0
    steps: int = 1
    of_data: bool = False

    @property
    def unit(self) -> Unit:
        """What is protected."""
        if self.mode == "record_dp":
            return "record"
        return "client_of_data" if self.of_data else "client"

    def sums(self, count: int) -> Sums:
        """So many noised sums of this training, for the accountant."""
        return Sums(self.noise_multiplier, count, self.sampling_rate, self.unit)


def read_privacy(given: Mapping[str, JsonValue]) -> AskedPrivacy:
    """Read the argument `privacy`; names may be in camelCase too.

    Raises:
        InvalidArguments: With everything that is wrong with it.
    """
    named = {_snake_case(name): value for name, value in given.items()}
    try:
        return AskedPrivacy.model_validate(named)
    except ValidationError as failure:
        wrong = [_words(dict(one)) for one in failure.errors(include_url=False)]
        fields = ", ".join(AskedPrivacy.model_fields)
        raise InvalidArguments(
            f"privacy: {'; '.join(wrong[:4])}",
            hint=f"privacy has {fields}; for example {EXAMPLE}",
        ) from None


def check_clients(asked: AskedPrivacy, clients: int, *, of_data: bool = False) -> None:
    """Refuse a round in which nobody can hide, and a delta that says nothing.

    Args:
        asked: What was asked.
        clients: Workers with rows in a round, or clients of the data.
        of_data: Whether these are clients of the data.

    Raises:
        InvalidArguments: There is one client, or delta is not below one over their number.
    """
    if clients < LEAST_CLIENTS:
        who = "clients of the data" if of_data else "workers with rows"
        more = (
            "use data with more clients"
            if of_data
            else "deploy more workers with neural_node_deploy"
        )
        raise InvalidArguments(
            f"privacy needs at least {LEAST_CLIENTS} {who} in each round, and there is {clients}:"
            " the average of one is its update",
            hint=f"{more}, or raise clients_per_round",
        )
    if asked.delta >= 1 / clients:
        raise InvalidArguments(
            f"privacy: delta={asked.delta:g} is not below 1/{clients}, one over the number of clients: it"
            " would allow to publish one of them",
            hint=f"leave delta out for {DEFAULT_DELTA:g}, or choose one far below {1 / clients:g}",
        )


def check_rows(asked: AskedPrivacy, rows: int) -> None:
    """Refuse a delta that says nothing of single rows.

    Args:
        asked: What was asked.
        rows: Of the training, of all workers together.

    Raises:
        InvalidArguments: Delta is not below one over their number.
    """
    if asked.delta >= 1 / rows:
        raise InvalidArguments(
            f"privacy: delta={asked.delta:g} is not below 1/{rows}, one over the number of training rows: it"
            " would allow to publish one of them",
            hint=f"choose a delta far below {1 / rows:.3g}, for example {0.1 / rows:.1g}",
        )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _words(error: dict[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    said = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{where[:40]} is unknown"
    return f"{where} {said[:1].lower()}{said[1:]}" if where else said
