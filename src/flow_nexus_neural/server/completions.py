"""Completes cluster ids while a user types one into a resource template or the prompt."""

from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.neural_server import NeuralServer

MAX_VALUES = 100


def register_completions(server: NeuralServer, host: EngineHost) -> None:
    """Register completions of `cluster_id`: ids by prefix, names by any substring."""

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator] # the SDK leaves it untyped
    async def complete(
        ref: PromptReference | ResourceTemplateReference,  # noqa: ARG001 - the argument's name says enough
        argument: CompletionArgument,
        context: CompletionContext | None,  # noqa: ARG001 - no argument here depends on another
    ) -> Completion | None:
        if argument.name != "cluster_id":
            return None
        try:
            lines = (await (await host.engine()).clusters()).clusters
        except NeuralError:
            return None  # no completion; the call that follows will report the error
        typed = argument.value.lower()
        matches = [
            line.cluster_id
            for line in reversed(lines)
            if line.cluster_id.startswith(typed) or typed in line.name.lower()
        ]
        return Completion(
            values=matches[:MAX_VALUES], total=len(matches), has_more=len(matches) > MAX_VALUES
        )
