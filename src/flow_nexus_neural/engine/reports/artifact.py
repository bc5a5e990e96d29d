"""Reports on models as files."""

from typing import Literal

from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy
from flow_nexus_neural.engine.reports.base import Report
from flow_nexus_neural.vocabulary import (
    Consensus,
    ExportFormat,
    Label,
    PlotFormat,
    PlotKind,
    Task,
)


class ExportedFile(Report):
    """One file of an export; `sha256` is of its bytes."""

    name: str
    bytes: int
    sha256: str


class ExportCheck(Report):
    """What an export answered, as it was read back, to rows that the cluster's own nodes answered too.

    `compared` says what was: answers, in probabilities or in standard deviations of a regression's target; or
    logits, the outputs of each network, relative to the nodes' where these are above 1. What a format makes
    of logits was then not run. `max_difference` is the largest difference, `tolerance` what is accepted. `by`
    says what computed the export's answers, `rows_of` where the rows come from.
    """

    rows: int
    max_difference: float
    tolerance: float
    compared: Literal["answers", "logits"]
    by: str
    rows_of: str


class ImportedFrom(Report):
    """Where an imported model comes from, as its export says; `sha256` is of the export's manifest."""

    cluster_id: str
    name: str
    version: int
    bundle_sha: str
    sha256: str


class ImportReport(Report):
    """A cluster was made of an exported model.

    It has the nodes that the exported version had, under their slot names; `accuracy` and `loss` were
    measured of that version and are None where they were not. `privacy` is what the export says of it.
    """

    cluster_id: str
    name: str
    model_version: int
    source: ImportedFrom
    consensus: Consensus
    task: Task
    classes: list[Label] | None
    nodes: int
    healthy_nodes: int
    networks: int
    accuracy: float | None
    loss: float | None
    privacy: ModelPrivacy | None
    warnings: list[str]


class ExportReport(Report):
    """A model was written.

    `verified` is None where nobody could answer by the export or by the cluster, and `not_verified` says why.
    `not_included` lists what of the cluster's answers the format does not hold. `sha256` is of the file, or
    of a folder's manifest, which names every file of it. `privacy` is of all trainings in the weights.
    """

    cluster_id: str
    model_version: int
    bundle_sha: str
    format: ExportFormat
    path: str
    files: list[ExportedFile]
    bytes: int
    sha256: str
    task: Task
    inputs: str
    outputs: str
    verified: ExportCheck | None
    not_verified: str | None
    not_included: list[str]
    privacy: ModelPrivacy | None
    warnings: list[str]


class PlotReport(Report):
    """A plot was drawn.

    Attributes:
        content: The picture or text of `format`.
        text: The same in words and numbers.
        path: Of the file that it was written to; None where none was asked for, as is `sha256`.
    """

    cluster_id: str
    kind: PlotKind
    format: PlotFormat
    content: bytes
    text: str
    path: str | None
    sha256: str | None
