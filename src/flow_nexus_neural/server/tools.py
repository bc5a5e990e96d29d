"""The tools. Each docstring is what the calling model reads."""

from typing import Any

from mcp.types import ToolAnnotations

from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    ExportRequest,
    ImportRequest,
    InitRequest,
    ListRequest,
    PlotRequest,
    PredictRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)
from flow_nexus_neural.engine.surface import EngineSurface, Progress
from flow_nexus_neural.server import texts
from flow_nexus_neural.server.answer_size import answer_short_enough
from flow_nexus_neural.server.json_schema import Schema
from flow_nexus_neural.server.rounding import OnWire
from flow_nexus_neural.server.schemas import (
    ConnectResult,
    DeployResult,
    ExportResult,
    ImportResult,
    InitResult,
    ListResult,
    PredictResult,
    StatusResult,
    TerminateResult,
    TrainResult,
)
from flow_nexus_neural.server.shown import Shown
from flow_nexus_neural.server.status_size import short_enough
from flow_nexus_neural.server.stored_answers import (
    NULL_WHERE_STORED,
    stored_clusters,
    stored_status,
)
from flow_nexus_neural.server.strict_tool import ToolSpec


async def neural_cluster_init(
    engine: EngineSurface, request: InitRequest, _: Progress
) -> InitResult:
    """Create an empty neural cluster.

    Call this first, then neural_node_deploy for its nodes. It returns the cluster_id that all other tools
    need.
    """
    return InitResult.of(await engine.init_cluster(request))


async def neural_node_deploy(
    engine: EngineSurface, request: DeployRequest, _: Progress
) -> DeployResult:
    """Start a node as a sandboxed process, or several equal ones (count), or replace a failed one.

    Call it after neural_cluster_init, once per kind of node; a cluster needs at least one worker. It returns
    when the nodes are healthy. When all nodes run, call neural_cluster_connect.
    """
    return DeployResult.of(await engine.deploy_node(request))


async def neural_cluster_connect(
    engine: EngineSurface, request: ConnectRequest, progress: Progress
) -> ConnectResult:
    """Link the deployed nodes, or change how they are linked.

    Call it after neural_node_deploy and before neural_train_distributed. On a trained cluster topology
    "star" also averages the workers' weights into a new model version.
    """
    return ConnectResult.of(await engine.connect(request, progress))


async def neural_train_distributed(
    engine: EngineSurface, request: TrainRequest, _: Progress
) -> TrainResult:
    """Start training the cluster's workers and return at once, while the training goes on.

    Then call neural_cluster_status with wait_seconds 25 and until "done", again while training_status is
    "running". On a trained cluster with the same kind of data it goes on from the model that was evaluated.
    """
    return TrainResult.of(await engine.train(request))


async def neural_cluster_status(
    engine: EngineSurface, request: StatusRequest, progress: Progress
) -> OnWire[StatusResult]:
    """Report a cluster: nodes, training progress, loss, accuracy on unseen rows beside a baseline.

    With wait_seconds and until "done" one call waits for the end of a training, up to 25 seconds; without
    them it answers at once. When training_status is "completed" or "early_stopped", predict.
    """
    return short_enough(StatusResult.of(await engine.status(request, progress)))


async def neural_predict_distributed(
    engine: EngineSurface, request: PredictRequest, progress: Progress
) -> OnWire[PredictResult]:
    """Predict with every serving node of a trained cluster and combine their answers.

    Call it once neural_train_distributed has committed a round, also while it goes on. It returns the
    prediction, its confidence, the agreement of the nodes and each node's answer.
    """
    answer = PredictResult.of(await engine.predict(request, progress))
    return answer_short_enough(answer, full=request.detail == "full")


async def neural_cluster_plot(engine: EngineSurface, request: PlotRequest, _: Progress) -> Shown:
    """Draw what was measured of a cluster, as a picture with the same numbers in words.

    Call it at any time; what was not measured yet is an error that says what to do.
    """
    return Shown.of(await engine.plot(request))


async def neural_model_export(
    engine: EngineSurface, request: ExportRequest, _: Progress
) -> ExportResult:
    """Write a trained cluster's model to a file or folder that other programs read.

    Call it once neural_train_distributed has committed a round. It returns the path, what the format leaves
    out, and how far the file's answers are from the nodes' own.
    """
    return ExportResult.of(await engine.export_model(request))


async def neural_model_import(
    engine: EngineSurface, request: ImportRequest, _: Progress
) -> ImportResult:
    """Make a new cluster of an exported model, with its nodes and the same predictions.

    It reads the folder of neural_model_export with format safetensors, and refuses one that was edited.
    """
    return ImportResult.of(await engine.import_model(request))


async def neural_cluster_terminate(
    engine: EngineSurface, request: TerminateRequest, _: Progress
) -> TerminateResult:
    """End a cluster and stop all its nodes, or only stop one training (training_id) or one node (node_id).

    Call it last, and ask the user first. Unless delete_artifacts is true, neural_cluster_init (restore)
    brings the cluster back.
    """
    return TerminateResult.of(await engine.terminate(request))


async def neural_cluster_list(
    engine: EngineSurface, request: ListRequest, _: Progress
) -> ListResult:
    """List the clusters that exist, with their nodes, training and model version in one line each.

    Call it to find the cluster_id of an earlier session. It starts nothing and changes nothing.
    """
    return ListResult.of(await engine.clusters(request))


def _hints(
    *, reads: bool = False, destroys: bool = False, idempotent: bool = False
) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=reads,
        destructive_hint=destroys,
        idempotent_hint=idempotent,
        open_world_hint=False,
    )


_TEXT_OR_JSON: Schema = {
    "anyOf": [
        {"type": "string"},
        {"type": "object"},
        {"type": "array", "items": {"type": "object"}},
    ]
}
"""Narrower than what is understood: rows of bare numbers can always be sent as JSON text. Some hosts refuse
tools whose schema has a list of types, or an array whose items are not described."""

_LABEL: Schema = {"anyOf": [{"type": "string"}, {"type": "number"}]}

TOOL_SPECS: tuple[ToolSpec[Any], ...] = (
    ToolSpec(
        call=neural_cluster_init,
        title="Create a neural cluster",
        request=InitRequest,
        result=InitResult,
        annotations=_hints(),
        arguments=texts.INIT_ARGUMENTS,
        outputs=texts.INIT_OUTPUTS,
        published={},
    ),
    ToolSpec(
        call=neural_node_deploy,
        title="Deploy a neural node",
        request=DeployRequest,
        result=DeployResult,
        annotations=_hints(),
        arguments=texts.DEPLOY_ARGUMENTS,
        outputs=texts.DEPLOY_OUTPUTS,
        published={},
    ),
    ToolSpec(
        call=neural_cluster_connect,
        title="Connect the nodes",
        request=ConnectRequest,
        result=ConnectResult,
        annotations=_hints(idempotent=True),
        arguments=texts.CONNECT_ARGUMENTS,
        outputs=texts.CONNECT_OUTPUTS,
        published={},
    ),
    ToolSpec(
        call=neural_train_distributed,
        title="Train a cluster",
        request=TrainRequest,
        result=TrainResult,
        annotations=_hints(),
        arguments=texts.TRAIN_ARGUMENTS,
        outputs=texts.TRAIN_OUTPUTS,
        published={"dataset": _TEXT_OR_JSON, "positive_class": _LABEL},
    ),
    ToolSpec(
        call=neural_cluster_status,
        title="Show a cluster",
        request=StatusRequest,
        result=StatusResult,
        annotations=_hints(reads=True, idempotent=True),
        arguments=texts.STATUS_ARGUMENTS,
        outputs=texts.STATUS_OUTPUTS,
        published={},
        stored=stored_status,
        nullable=NULL_WHERE_STORED,
    ),
    ToolSpec(
        call=neural_predict_distributed,
        title="Predict with a cluster",
        request=PredictRequest,
        result=PredictResult,
        annotations=_hints(destroys=True),
        arguments=texts.PREDICT_ARGUMENTS,
        outputs=texts.PREDICT_OUTPUTS,
        published={"input_data": _TEXT_OR_JSON},
    ),
    ToolSpec(
        call=neural_cluster_plot,
        title="Plot a cluster",
        request=PlotRequest,
        result=None,
        annotations=_hints(destroys=True),
        arguments=texts.PLOT_ARGUMENTS,
        outputs={},
        published={},
    ),
    ToolSpec(
        call=neural_model_export,
        title="Export a model",
        request=ExportRequest,
        result=ExportResult,
        annotations=_hints(destroys=True),
        arguments=texts.EXPORT_ARGUMENTS,
        outputs=texts.EXPORT_OUTPUTS,
        published={},
    ),
    ToolSpec(
        call=neural_model_import,
        title="Import a model",
        request=ImportRequest,
        result=ImportResult,
        annotations=_hints(),
        arguments=texts.IMPORT_ARGUMENTS,
        outputs=texts.IMPORT_OUTPUTS,
        published={},
    ),
    ToolSpec(
        call=neural_cluster_terminate,
        title="Terminate a cluster",
        request=TerminateRequest,
        result=TerminateResult,
        annotations=_hints(destroys=True, idempotent=True),
        arguments=texts.TERMINATE_ARGUMENTS,
        outputs=texts.TERMINATE_OUTPUTS,
        published={},
    ),
    ToolSpec(
        call=neural_cluster_list,
        title="List the clusters",
        request=ListRequest,
        result=ListResult,
        annotations=_hints(reads=True, idempotent=True),
        arguments=texts.LIST_ARGUMENTS,
        outputs=texts.LIST_OUTPUTS,
        published={},
        stored=stored_clusters,
    ),
)
"""In the order in which they are called; the list of clusters, at any time, comes last."""

NEVER_SUGGESTED = frozenset({"neural_cluster_terminate"})
"""What ends something by its name alone; a prediction replaces a file only where it is told to."""

READING = _hints(reads=True, idempotent=True)
"""The hints of every tool of a read-only server."""

READ_ONLY_TOOLS = (
    "neural_cluster_status",
    "neural_predict_distributed",
    "neural_cluster_plot",
    "neural_cluster_list",
)
