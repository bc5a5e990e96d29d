"""`neural_cluster_view`: the live view of a cluster in a conversation, as an MCP App.

Specification: MCP Apps, 2026-01-26 (SEP-1865). The tool names a `ui://` resource, which a host that knows the
extension draws; the page then asks for news by itself. As the specification wants it, a client is shown the
tool and its resource only if it declared the extension; whoever calls the tool all the same gets the text.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from mcp.server.apps import APP_MIME_TYPE, client_supports_apps
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resources import TextResource
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from typing_extensions import override

from flow_nexus_neural.engine.reports import Report, StatusReport
from flow_nexus_neural.engine.requests import EngineRequest, StatusRequest
from flow_nexus_neural.engine.surface import EngineSurface, Progress
from flow_nexus_neural.server import texts
from flow_nexus_neural.server.dashboard.page import page_html
from flow_nexus_neural.server.rounding import OnWire
from flow_nexus_neural.server.schemas import StatusResult
from flow_nexus_neural.server.status_size import short_enough
from flow_nexus_neural.server.stored_answers import Content, stored_status, stored_summary
from flow_nexus_neural.server.strict_tool import StrictTool, ToolSpec, succeeded

VIEW_URI: Final = "ui://flow-nexus-neural/cluster.html"
STATUS_META: Final = "flow-nexus-neural/status"
"""Key of the result's `_meta` under which the view finds the status: hosts keep it from the model."""


class ViewRequest(EngineRequest):
    """Show a cluster."""

    cluster_id: str


class ViewResult(Report):
    """What the model is told; the numbers go to the view."""

    success: Literal[True]
    cluster_id: str
    name: str
    status: str
    drawn: bool
    summary: str
    warnings: list[str]


async def neural_cluster_view(
    engine: EngineSurface, request: ViewRequest, _: Progress
) -> OnWire[StatusResult]:
    """Show the user a live view of a cluster: links, learning curves, nodes, predictions, calibration.

    Call it once when the user wants to watch or see a cluster; the view refreshes itself. For numbers of your
    own call neural_cluster_status.
    """
    asked = StatusRequest(cluster_id=request.cluster_id, detail="full")
    return short_enough(StatusResult.of(await engine.status(asked)))


VIEW_SPEC: Final[ToolSpec[ViewRequest]] = ToolSpec(
    call=neural_cluster_view,
    title="Show a live view of a cluster",
    request=ViewRequest,
    result=ViewResult,
    annotations=ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
    arguments=texts.VIEW_ARGUMENTS,
    outputs=texts.VIEW_OUTPUTS,
    published={},
    meta={"ui": {"resourceUri": VIEW_URI}},
    stored=stored_status,
)


class ViewTool(StrictTool):
    """Gives the status to the view, and a few sentences to the model."""

    @override
    def answer(self, sent: OnWire[Any], context: Context[Any, Any]) -> CallToolResult:
        """The sentences as content, and the status as `_meta` for a client that draws it."""
        status: StatusResult = sent.result
        drawn = client_supports_apps(context)
        told = ViewResult(
            success=True,
            cluster_id=status.cluster_id,
            name=status.name,
            status=status.status,
            drawn=drawn,
            summary=summary(status),
            warnings=status.warnings,
        )
        how = _DRAWN if drawn else _NOT_DRAWN
        result = succeeded(OnWire(told))
        text = TextContent(type="text", text=f"{told.summary} {how}")
        meta = {STATUS_META: sent.content} if drawn else None
        return result.model_copy(update={"content": [text], "meta": meta})

    @override
    def answer_stored(self, content: Content, context: Context[Any, Any]) -> CallToolResult:
        """As `answer`, of what is stored while another server has the state directory."""
        drawn = client_supports_apps(context)
        named = {name: content[name] for name in ("cluster_id", "name", "status", "warnings")}
        told = ViewResult.model_validate(
            {**named, "success": True, "drawn": drawn, "summary": stored_summary(content)}
        )
        text = f"{told.summary} {_DRAWN if drawn else _NOT_DRAWN}"
        return succeeded(OnWire(told)).model_copy(
            update={
                "content": [TextContent(type="text", text=text)],
                "meta": {STATUS_META: content} if drawn else None,
            }
        )


_DRAWN: Final = "The user sees all of it in a live view, which keeps itself up to date."
_NOT_DRAWN: Final = (
    "This client draws no views: the command 'flow-nexus-neural dashboard' shows the cluster in a browser,"
    " and neural_cluster_status has every number."
)


def view_page() -> TextResource:
    """The resource that a host draws."""
    return TextResource(
        uri=VIEW_URI,
        name="cluster_view",
        title="Live view of a cluster",
        description="The page that neural_cluster_view shows; it loads nothing from elsewhere.",
        mime_type=APP_MIME_TYPE,
        meta={"ui": {"prefersBorder": False}},
        text=page_html("host"),
    )


def summary(status: StatusReport) -> str:
    """A cluster in a few sentences, with what was measured and nothing else."""
    nodes = f"{status.active_nodes} of {status.total_nodes} nodes active"
    said = [f"Cluster {status.name} ({status.cluster_id}) is {status.status}, {nodes}"]
    said += _of_training(status)
    if status.global_accuracy is not None and status.evaluation is not None:
        told = f"accuracy {status.global_accuracy:.3f} on {status.evaluation.test_rows} test rows"
        best, baselines = status.evaluation.best_baseline, status.evaluation.baselines
        if best is not None and baselines is not None:
            told += f" (best baseline {best}: {baselines[best]:.4g})"
        said.append(told)
    if status.latency.p50 is not None:
        median, n = status.latency.p50, status.latency.n
        said.append(f"predict takes {median:.1f} ms (median of {n})")
    return "; ".join(said) + "."


def _of_training(status: StatusReport) -> Sequence[str]:
    training = status.training
    if training is None:
        return ["not trained"]
    losses = [
        f"{name} loss {loss:.4g}"
        for name, loss in (("train", training.train_loss), ("validation", training.val_loss))
        if loss is not None
    ]
    progress = f"training {status.training_status}, round {training.current_round} of {training.total_rounds}"
    return [", ".join([progress, *losses])]
