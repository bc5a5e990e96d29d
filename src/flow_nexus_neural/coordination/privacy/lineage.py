"""What all trainings in a model's weights have cost in privacy: of each, and composed by data set."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from flow_nexus_neural.coordination.privacy.accountant import Sums, Unit, epsilon_of, seen_by
from flow_nexus_neural.coordination.privacy.settings import Mode, PrivacySettings
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent, same_data
from flow_nexus_neural.coordination.privacy.statement import statement_of

RELATIVE = 1e-3
"""By which an epsilon that is stated may differ from the one that is computed: versions of a library do."""

Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Words = Annotated[str, Field(max_length=400)]
Identity = Annotated[str, Field(max_length=4_096)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TrainingPrivacy(_Frozen):
    """What one training that is in the weights has cost; every number of one without privacy is None.

    Attributes:
        rounds: Committed when the version was made.
        data: What identifies its data set: the content, and the place of a file.
        sums: Noised sums into which the unit that is protected went most often.
        epsilon: Of these sums at this delta.
        epsilon_of_data: With all private trainings on the data set in the state directory, in these weights
            or not.
        clip_norm: That of the newest sum.
        protects: Whose sums these are; None without privacy, and where it was stored before that was
            recorded: then clients are workers.
    """

    training_id: Annotated[str, Field(max_length=80)]
    mode: Literal["none"] | Mode
    rounds: Count
    data: Annotated[tuple[Identity, ...], Field(max_length=8)]
    secure_aggregation: bool = False
    epsilon: Amount | None = None
    delta: Share | None = None
    noise_multiplier: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)] | None = None
    clip_norm: Amount | None = None
    sums: Count | None = None
    sampling_rate: Share | None = None
    target_epsilon: Amount | None = None
    max_epsilon: Amount | None = None
    epsilon_of_data: Amount | None = None
    accountant: Words | None = None
    relation: Words | None = None
    sampling: Words | None = None
    conversion: Words | None = None
    unit: Words | None = None
    protects: Unit | None = None

    @property
    def protected(self) -> Unit | None:
        """Whose sums these are; None without privacy. Raises ValueError where the mode protects another."""
        if self.mode == "none":
            return None
        found: Unit = self.protects or ("client" if self.mode == "central_dp" else "record")
        if (found == "record") != (self.mode == "record_dp"):
            raise ValueError(f"training {self.training_id} of mode {self.mode} protects no {found}")
        return found

    @property
    def spent(self) -> Sums | None:
        """For the accountant; None without privacy. Raises ValueError where a number of it is missing."""
        protects = self.protected
        if protects is None:
            return None
        if None in (self.noise_multiplier, self.sums, self.sampling_rate, self.delta, self.epsilon):
            raise ValueError(f"training {self.training_id} of mode {self.mode} lacks numbers")
        return Sums(self.noise_multiplier or 0, self.sums or 0, self.sampling_rate or 1, protects)


class DataPrivacy(_Frozen):
    """What a model's weights tell of one data set.

    Attributes:
        data: All that identifies the data set.
        trainings: On it, oldest first.
        mode: `none` where one of them had no privacy; `mixed` where one protected workers and another clients
            of the data, which cannot be counted together. Then epsilon is None.
        delta: That of the newest of them.
        protects: Of whom epsilon is; None without one.
    """

    data: tuple[Identity, ...]
    trainings: tuple[str, ...]
    mode: Literal["none", "mixed"] | Mode
    epsilon: Amount | None = None
    delta: Share | None = None
    protects: Unit | None = None


class ModelPrivacy(_Frozen):
    """The privacy of a model: of every training that is in its weights.

    Attributes:
        mode: That of all data sets; `mixed` where these differ in it, or in whom they protect; `unknown`
            where the weights started from some of which nobody knows how they were trained.
        epsilon: The largest of any data set, each composed over all its trainings; None unless all have one.
        delta: That of this epsilon.
        trainings: Oldest first.
    """

    mode: Literal["none", "mixed", "unknown"] | Mode
    epsilon: Amount | None = None
    delta: Share | None = None
    data_sets: Annotated[tuple[DataPrivacy, ...], Field(max_length=10_000)] = ()
    trainings: Annotated[tuple[TrainingPrivacy, ...], Field(max_length=10_000)] = ()

    def bare_on(self, data: Sequence[str]) -> str | None:
        """The training without privacy that may have learnt from a data set; None for none."""
        for one in self.trainings:
            if one.mode == "none" and (not one.data or same_data(one.data, data)):
                return one.training_id
        return None


FRESH = ModelPrivacy(mode="none")
"""Of weights that no training has touched."""
UNKNOWN = ModelPrivacy(mode="unknown")
"""Of weights of which nobody knows how they were trained."""


def of_training(
    training_id: str,
    rounds: int,
    settings: PrivacySettings | None,
    spent: PrivacySpent,
    *,
    secure_aggregation: bool,
) -> TrainingPrivacy:
    """What a training has cost until now.

    Args:
        training_id: Of the training.
        rounds: That it has committed.
        settings: Its privacy; None without.
        spent: What it has spent, and what identifies its data.
        secure_aggregation: Whether updates were masked.
    """
    bare = TrainingPrivacy(
        training_id=training_id,
        mode="none" if settings is None else settings.mode,
        rounds=rounds,
        data=spent.data,
        secure_aggregation=secure_aggregation,
    )
    if settings is None:
        return bare
    said = statement_of(settings)
    return bare.model_copy(
        update={
            "epsilon": spent.epsilon,
            "delta": settings.delta,
            "noise_multiplier": settings.noise_multiplier,
            "clip_norm": min(spent.clip_norms.values(), default=settings.clip_norm),
            "sums": spent.most,
            "sampling_rate": settings.sampling_rate,
            "target_epsilon": settings.target_epsilon,
            "max_epsilon": settings.max_epsilon,
            "epsilon_of_data": spent.epsilon_of_data,
            "accountant": said.accountant,
            "relation": said.relation,
            "sampling": said.sampling,
            "conversion": said.conversion,
            "unit": said.unit,
            "protects": settings.unit,
        }
    )


def with_training(former: ModelPrivacy, own: TrainingPrivacy) -> ModelPrivacy:
    """What is known of weights into which one more training went, or the same one further.

    Raises:
        NotAvailable: Several private trainings are to be composed, and the extra `privacy` is not installed.
    """
    kept = tuple(one for one in former.trainings if one.training_id != own.training_id)
    return composed((*kept, own), former.data_sets, unknown=former.mode == "unknown")


def composed(
    trainings: Sequence[TrainingPrivacy],
    known: Sequence[DataPrivacy] = (),
    *,
    unknown: bool = False,
) -> ModelPrivacy:
    """The privacy of weights that are of these trainings. Raises as `with_training`.

    Args:
        trainings: Oldest first.
        known: Data sets that were composed before; one whose trainings are the same is not composed again.
        unknown: Whether there were others before them of which nothing is known.
    """
    before = {one.trainings: one for one in known}
    data_sets = []
    for group in _by_data(trainings):
        names = tuple(one.training_id for one in group)
        # The newest training has cost more since then.
        same = before.get(names) if group[-1] is not trainings[-1] else None
        data_sets.append(same or _of_data(group))
    kinds = {(one.mode, one.protects) for one in data_sets}
    mode: Literal["none", "mixed", "unknown"] | Mode = "mixed" if len(kinds) > 1 else "none"
    if unknown:
        mode = "unknown"
    elif len(kinds) == 1:
        ((mode, _),) = kinds
    whole = not unknown and bool(data_sets) and all(one.epsilon is not None for one in data_sets)
    most = max(data_sets, key=lambda one: one.epsilon or 0.0) if whole else None
    return ModelPrivacy(
        mode=mode,
        epsilon=most.epsilon if most else None,
        delta=most.delta if most else None,
        data_sets=tuple(data_sets),
        trainings=tuple(trainings),
    )


def fault_of(stated: ModelPrivacy) -> str | None:
    """What cannot be true of a statement from elsewhere; None where its epsilons are what its sums cost.

    Raises:
        NotAvailable: The extra `privacy`, which computes them, is not installed.
    """
    try:
        found = composed(stated.trainings, unknown=stated.mode == "unknown")
        single = [
            (one.epsilon, _epsilon([one], one.protected))
            for one in stated.trainings
            if one.protected is not None
        ]
    except ValueError as failure:
        return str(failure)
    pairs = [(stated.epsilon, found.epsilon), *single]
    if stated.mode != found.mode or len(stated.data_sets) != len(found.data_sets):
        return f"its trainings make it {found.mode}, and it says {stated.mode}"
    pairs += [
        (told.epsilon, of.epsilon)
        for told, of in zip(stated.data_sets, found.data_sets, strict=True)
    ]
    for told, costs in pairs:
        if (told is None) != (costs is None):
            return f"it says epsilon {told}, and its sums cost {costs}"
        if (
            told is not None
            and costs is not None
            and abs(told - costs) > RELATIVE * max(costs, 1e-9)
        ):
            return f"it says epsilon {told:.6g}, and its sums cost {costs:.6g}"
    return None


def _by_data(trainings: Sequence[TrainingPrivacy]) -> Iterator[list[TrainingPrivacy]]:
    """Trainings on one data set together; what shares a content or a place with any of them is on it too."""
    groups: list[list[TrainingPrivacy]] = []
    order: Mapping[str, int] = {one.training_id: n for n, one in enumerate(trainings)}
    for one in trainings:
        joined = [g for g in groups if any(same_data(one.data, other.data) for other in g)]
        groups = [g for g in groups if g not in joined] + [[*chain.from_iterable(joined), one]]
    for group in groups:
        yield sorted(group, key=lambda one: order[one.training_id])


def _of_data(group: Sequence[TrainingPrivacy]) -> DataPrivacy:
    data = tuple(dict.fromkeys(identity for one in group for identity in one.data))
    names = tuple(one.training_id for one in group)
    units = {one.protected for one in group}
    if None in units:
        return DataPrivacy(data=data, trainings=names, mode="none")
    # What is told of a row is known of sums of either kind of client, of one kind by the other it is not.
    if "record" not in units and len(units) > 1:
        return DataPrivacy(data=data, trainings=names, mode="mixed")
    unit: Unit = "record" if "record" in units else group[0].protected or "client"
    return DataPrivacy(
        data=data,
        trainings=names,
        mode="record_dp" if unit == "record" else "central_dp",
        epsilon=group[0].epsilon if len(group) == 1 else _epsilon(group, unit),
        delta=group[-1].delta,
        protects=unit,
    )


def _epsilon(group: Sequence[TrainingPrivacy], unit: Unit) -> float:
    """Of private trainings together, for what the most careful of them protects."""
    events = [one.spent for one in group]
    return epsilon_of(
        seen_by(unit, [one for one in events if one is not None]), group[-1].delta or 0.0
    )
