"""What each role adds: the test rows predicted with it and without it."""

import numpy as np
from pydantic import JsonValue

from flow_nexus_neural.engine.versions.evaluation import measure
from flow_nexus_neural.engine.versions.members import Members, RoleWork
from flow_nexus_neural.engine.versions.served import Logits, Served, target_scale
from flow_nexus_neural.kernels.ensemble import Fused, fuse
from flow_nexus_neural.kernels.metrics import RegressionMetrics, reliability
from flow_nexus_neural.kernels.probabilities import logit
from flow_nexus_neural.kernels.row_losses import row_losses
from flow_nexus_neural.vocabulary import DEFAULT_AGGREGATION

WITHOUT_STUDENT = "test without student"
"""Name of the test rows as aggregators see them where no student answered."""

Line = dict[str, JsonValue]


def ablation(members: Members, work: RoleWork) -> dict[str, JsonValue]:
    """Accuracy and log loss on test rows, or the errors of values; None where there is no such role.

    Networks that are trained and not used are measured too, so that it shows what using them would have done.

    Args:
        members: What the slots answer.
        work: What the roles made of it.
    """
    told: dict[str, JsonValue] = {
        "mean": _line(members, members.served(members.bundle, "mean", "test").final),
        "weighted": _line(members, members.served(members.bundle, "weighted", "test").final),
        "ensemble_without_aggregators": _line(
            members, members.served(members.bundle, "ensemble", "test").final
        ),
        "ensemble_with_aggregators": _stacked(members, work, work.stacked.get("test")),
        "ensemble_without_student": _stacked(members, work, work.stacked.get(WITHOUT_STUDENT)),
        "student": _student(members, work.student.get("test")),
    }
    return told | _confidence(members, work)


def _stacked(members: Members, work: RoleWork, stacked: Logits | None) -> Line | None:
    if stacked is None:
        return None
    bundle = members.refitted(work.stacked)
    return _line(members, members.served(bundle, "ensemble", "test", stacked).final)


def _student(members: Members, outputs: Logits | None) -> Line | None:
    """What the students answer alone."""
    if outputs is None:
        return None
    schema = members.schema
    scale, rule = target_scale(schema), members.bundle.rule
    own = np.asarray(outputs, np.float64)[None]
    return _line(members, fuse("mean", own, [1.0], schema.task, scale=scale, rule=rule))


def _line(members: Members, answers: Fused) -> Line:
    found = measure(members.schema, answers, members.parts["test"])
    if isinstance(found, RegressionMetrics):
        return {"mae": found.mae, "rmse": found.rmse}
    return {"accuracy": found.accuracy, "log_loss": found.loss}


def _confidence(members: Members, work: RoleWork) -> dict[str, JsonValue]:
    """P(the decision is right) of the default aggregation, held against whether it is."""
    mode, names = (
        DEFAULT_AGGREGATION,
        ("confidence_without_validators", "confidence_with_validators"),
    )
    if members.schema.task == "regression":
        return dict.fromkeys(names)
    made = members.served(work.bundle, mode, "test")
    lines: list[JsonValue] = [_sure(members, made)]
    sure = work.sure.get(mode)
    lines.append(None if sure is None else _sure(members, Served(made.raw, made.final, sure=sure)))
    return dict(zip(names, lines, strict=True))


def _sure(members: Members, made: Served) -> Line | None:
    certainty = made.certainty
    if certainty is None or not len(certainty):
        return None
    hits = members.hits(made.final, "test")
    found = reliability(certainty, hits)
    loss = float(row_losses(logit(certainty)[:, None], hits.astype(float), "binary").mean())
    return {"brier": found.brier, "ece": found.ece, "log_loss": loss} if found else None
