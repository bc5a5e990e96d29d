"""The prompt `plan_cluster`: plan a cluster for a goal before building it."""

from typing import Annotated

from pydantic import Field

from flow_nexus_neural.server.neural_server import NeuralServer

_PLAN = """\
Plan a neural cluster, then build it with the neural_* tools.

Goal: {goal}
Data: {data}
{start}
1. Say which column is predicted, whether it is a class or a number, and what a trivial baseline would reach.
2. Choose topology, architecture, consensus and the nodes (role, model size, capabilities), with one reason \
each; of consensus only byzantine has an effect, and autonomy is only recorded. Start small: two or three \
workers of model "base".
3. Build it: neural_node_deploy once per kind of node (count), neural_cluster_connect, \
neural_train_distributed, then neural_cluster_status with wait_seconds=25 and until="done", again while \
training_status is "running".
4. Judge it by global_accuracy beside evaluation.baselines and accuracy_interval. If the interval \
holds the best baseline or evaluation.skill is not above 0, say that nothing was learnt. Results on \
synthetic data say nothing about real markets.
5. Predict one record with neural_predict_distributed and explain confidence, consensus and input_report.
6. Ask before calling neural_cluster_terminate."""


def register_prompts(server: NeuralServer) -> None:
    """Register the prompt `plan_cluster`."""

    @server.prompt(
        name="plan_cluster",
        title="Plan a neural cluster",
        description="Plan, build, train and judge a cluster for a goal and its data.",
    )
    def plan_cluster(
        goal: Annotated[str, Field(description="What should be predicted, and what for")],
        data: Annotated[
            str, Field(description="Built-in name, file path, or a description of the data")
        ] = "not given; ask for it",
        cluster_id: Annotated[
            str, Field(description="Continue with this cluster instead of a new one")
        ] = "",
    ) -> str:
        start = (
            f"Continue with cluster {cluster_id}: look at it with neural_cluster_status first."
            if cluster_id
            else "Start with neural_cluster_init."
        )
        return _PLAN.format(goal=goal, data=data, start=start)
