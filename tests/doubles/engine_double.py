"""A double of the engine for tests of the server. Its values are plainly made up and mean nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from flow_nexus_neural.engine import reports as r
from flow_nexus_neural.engine import requests as q
from flow_nexus_neural.engine.surface import Progress
from flow_nexus_neural.errors import ClusterNotFound, NotTrained

CLUSTER = "dnc_000000000001"
NODE = "node_{:012x}"
TRAINING = "trn_000000000001"
LONG_AGO = "2001-01-01T00:00:00Z"
PI = 3.14159265358979
TAGS = ["btc_analysis", "real_time_inference"]

GUARANTEES = r.Guarantees(
    mode="byzantine",
    n=6,
    f_tolerated=1,
    condition="n >= 3f+1",
    holds=True,
    trusted=["engine", "parameter_server-0", "validator-0"],
    notes=[],
)
WASM = r.Wasm(requested=True, active=False, reason="there is no trained model yet")


class EngineDouble:
    """Answers every operation with made-up reports and records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[q.EngineRequest] = []
        self.listeners: list[Callable[[str], None]] = []
        self.fail_with: BaseException | None = None
        self.replace: dict[str, Any] = {}
        self.progress_steps = 0
        self.waiting = anyio.Event()
        self.n_nodes = 11

    def _record(self, request: q.EngineRequest) -> None:
        self.asked.append(request)
        if self.fail_with is not None:
            raise self.fail_with
        cluster_id = getattr(request, "cluster_id", CLUSTER)
        if cluster_id != CLUSTER:
            raise ClusterNotFound(
                f"no cluster '{cluster_id}'. Known: {CLUSTER} (double)",
                hint="Create one with neural_cluster_init",
            )

    async def init_cluster(self, request: q.InitRequest) -> r.ClusterReport:
        self._record(request)
        seed = 42 if request.seed is None else request.seed
        return r.ClusterReport(
            cluster_id=CLUSTER,
            name=request.name or "double",
            topology=request.topology,
            architecture=request.architecture,
            consensus=request.consensus,
            status="initialized",
            created=True,
            config=r.ClusterConfig(
                architecture=request.architecture,
                topology=request.topology,
                consensus=request.consensus,
                daa_enabled=request.daa_enabled,
                wasm_optimization=WASM.model_copy(update={"requested": request.wasm_optimization}),
                seed=seed,
                max_nodes=32,
                limits=r.Limits(max_parameters=10_000_000, max_rows=1_000_000),
            ),
            daa_enabled=request.daa_enabled,
            wasm_enabled=False,
            guarantees=GUARANTEES,
            isolation=r.IsolationPreview(level="strict", platform="linux"),
            max_nodes=32,
            created_at=LONG_AGO,
            restored=None,
            warnings=[],
        )

    async def deploy_node(self, request: q.DeployRequest) -> r.NodeReport:
        self._record(request)
        role = request.role or request.node_type or "worker"
        return r.NodeReport(
            node_id=NODE.format(1),
            node_ids=[NODE.format(number + 1) for number in range(request.count)],
            slots=[f"{role}-{number}" for number in range(request.count)],
            cluster_id=CLUSTER,
            slot=f"{role}-0",
            role=role,
            node_type=request.node_type or role,
            status="deployed",
            healthy=True,
            model=request.model,
            capabilities=list(request.capabilities),
            autonomy=request.autonomy,
            template=request.template,
            runtime="double-0.0",
            layers=[dict(request.layers)]
            if isinstance(request.layers, dict)
            else list(request.layers or [{"type": "dense", "units": 1, "activation": "linear"}]),
            layers_source="given" if request.layers else "default",
            parameters=None,
            implied_head=None,
            incarnation=1,
            replaces=None,
            synced_version=None,
            sync_ms=None,
            deduplicated=False,
            joins="now",
            pid=41233,
            wasm=r.NodeBackend(requested=True, backend={}, speedup_measured={}, reason=WASM.reason),
            isolation=r.IsolationReport(
                level="strict",
                layers={"no_new_privs": True, "landlock_abi": 7},
                probes={"socket": "EPERM"},
                not_enforced=["cpu_share"],
                missing=[],
                shared_with=[],
            ),
            deployed_at=LONG_AGO,
            warnings=[],
        )

    async def connect(
        self, request: q.ConnectRequest, progress: Progress | None = None
    ) -> r.ConnectReport:
        self._record(request)
        await self._report(progress)
        return r.ConnectReport(
            cluster_id=CLUSTER,
            topology=request.topology or "mesh",
            declared_topology="mesh",
            previous_topology=None,
            status="connected",
            pending=False,
            changed=True,
            applied="now",
            topology_epoch=1,
            connections=1,
            edges=[r.Edge(from_slot="worker-0", to_slot="worker-1", latency_ms=PI)],
            nodes_connected=2,
            connected=True,
            diameter=1,
            spectral_gap=1.0,
            aggregation=r.AggregationReport(
                performed=False,
                reason="nothing is trained",
                version=None,
                contributors=None,
                excluded=[],
                weights_digest=None,
                accuracy_before=None,
                accuracy_after=None,
                bytes=None,
                ms=None,
            ),
            rebalanced=r.Rebalanced(moved_shards=0),
            advice=[],
            warnings=[],
        )

    async def train(self, request: q.TrainRequest) -> r.TrainingReport:
        self._record(request)
        return r.TrainingReport(
            training_id=TRAINING,
            cluster_id=CLUSTER,
            status="running",
            nodes_training=6,
            participating_nodes=[NODE.format(i) for i in range(6)],
            epochs=request.epochs or 10,
            total_rounds=request.rounds or request.epochs or 10,
            config=r.TrainingConfig(
                refit=False,
                epochs=request.epochs or 10,
                batch_size=request.batch_size or 32,
                learning_rate=request.learning_rate or 1e-3,
                optimizer=request.optimizer,
                federated=request.federated,
                rounds=request.rounds or request.epochs or 10,
                local_epochs=1,
                clients_per_round=5,
                min_nodes_per_round=4,
                aggregation_method="federated_averaging",
                partition="capability",
                seed=5512,
                strategy="federated",
                sync_every_steps=None,
                class_weight=None,
                threshold=0.5,
                positive_class=1,
                patience=request.patience or 0,
                chosen=[],
            ),
            dataset_info=r.DatasetInfo(
                name="double",
                kind="builtin",
                source="made up",
                rows=4000,
                columns=["price", "features[50]"],
                target="next return > 0",
                task="binary",
                classes=[0, 1],
                split=r.SplitSizes(
                    train=2758, select=318, meta=398, verify=0, calib=198, test=320, purged=8
                ),
                synthetic=True,
                sha256="1f0e",
                symbols=["BTC", "ETH"],
                excluded_columns=[r.ExcludedColumn(name="timestamp", reason="time")],
            ),
            networks=[
                r.NetworkInfo(
                    cohort="c0",
                    slots=["worker-0"],
                    parameters=834_561,
                    input=[50, 4],
                    implied_head=False,
                    layers_source="given",
                )
            ],
            guarantees=GUARANTEES,
            poll_after_ms=2000,
            started_at=LONG_AGO,
            privacy=None,
            warnings=["made up"],
        )

    async def status(
        self, request: q.StatusRequest, progress: Progress | None = None
    ) -> r.StatusReport:
        self._record(request)
        await self._report(progress)
        n_nodes = 0 if request.detail == "summary" else self.n_nodes
        report = status_report([node_status(i) for i in range(n_nodes)], request.detail == "full")
        return report.model_copy(update=self.replace)

    async def predict(
        self, request: q.PredictRequest, progress: Progress | None = None
    ) -> r.PredictionReport:
        self._record(request)
        return prediction_report(request.aggregation)

    async def terminate(self, request: q.TerminateRequest) -> r.TerminateReport:
        self._record(request)
        return r.TerminateReport(
            cluster_id=CLUSTER,
            status="training_stopped" if request.training_id else "terminated",
            already_terminated=False,
            nodes_terminated=0 if request.training_id else 11,
            training_id=request.training_id,
            node_id=request.node_id,
            message="Cluster double terminated",
            checkpoints_kept=0 if request.delete_artifacts else 7,
            artifacts_path=None,
            final_metrics=r.FinalMetrics(
                rounds=50,
                global_accuracy=0.604,
                global_loss=0.657,
                communication_bytes=5_007_450_000,
                uptime_seconds=190,
            ),
            terminated_at=LONG_AGO,
            warnings=[],
        )

    async def plot(self, request: q.PlotRequest) -> r.PlotReport:
        self._record(request)
        return r.PlotReport(
            cluster_id=request.cluster_id,
            kind=request.kind,
            format=request.format or "png",
            content=b"picture",
            text="one round",
            path=request.path,
            sha256=None if request.path is None else "00" * 32,
        )

    async def export_model(self, request: q.ExportRequest) -> r.ExportReport:
        self._record(request)
        sha = "ab" * 32
        return r.ExportReport(
            cluster_id=CLUSTER,
            model_version=51,
            bundle_sha=sha,
            format=request.format,
            path=f"/data/{request.path}",
            files=[r.ExportedFile(name="model.safetensors", bytes=4096, sha256=sha)],
            bytes=4096,
            sha256=sha,
            task="binary",
            inputs="rows in stored order",
            outputs="probability per class",
            verified=r.ExportCheck(
                rows=8,
                max_difference=1e-8,
                tolerance=1e-5,
                compared="answers",
                by="numpy",
                rows_of="test rows",
            ),
            not_verified=None,
            not_included=[],
            privacy=None,
            warnings=[],
        )

    async def import_model(self, request: q.ImportRequest) -> r.ImportReport:
        self._record(request)
        sha = "ab" * 32
        return r.ImportReport(
            cluster_id=CLUSTER,
            name=request.name or "double",
            model_version=1,
            source=r.ImportedFrom(
                cluster_id=CLUSTER, name="double", version=51, bundle_sha=sha, sha256=sha
            ),
            consensus="byzantine",
            task="binary",
            classes=[0, 1],
            nodes=6,
            healthy_nodes=6,
            networks=1,
            accuracy=None,
            loss=None,
            privacy=None,
            warnings=[],
        )

    async def clusters(self, request: q.ListRequest | None = None) -> r.ClusterList:
        if request is not None:
            self._record(request)
        return r.ClusterList(clusters=[cluster_line()], live=1, ended=0, warnings=[])

    async def history(self, cluster_id: str) -> r.HistoryReport:
        self._record(q.StatusRequest(cluster_id=cluster_id))
        return r.HistoryReport(
            cluster_id=CLUSTER, training_id=TRAINING, rounds=[history_point(i) for i in range(50)]
        )

    async def audit(self, cluster_id: str) -> r.AuditReport:
        self._record(q.StatusRequest(cluster_id=cluster_id))
        return r.AuditReport(
            cluster_id=CLUSTER, entries=[{"rule": "restart_node"}], intact=True, damage=None
        )

    def on_change(self, listener: Callable[[str], None]) -> None:
        self.listeners.append(listener)

    async def _report(self, progress: Progress | None) -> None:
        for step in range(self.progress_steps):
            assert progress is not None
            await progress(step, 50, f"round {step}/50 loss 0.661 acc 0.602")
        if self.progress_steps < 0:
            self.waiting.set()
            await anyio.sleep_forever()


def cluster_line() -> r.ClusterLine:
    return r.ClusterLine(
        cluster_id=CLUSTER,
        name="double",
        status="ready",
        created_at=LONG_AGO,
        active_nodes=11,
        total_nodes=11,
        training_status="completed",
        training_progress=100.0,
        model_version=50,
        restorable=None,
    )


def history_point(number: int) -> r.HistoryPoint:
    return r.HistoryPoint(
        round=number,
        train_loss=PI,
        val_loss=PI,
        accuracy=0.602123,
        bytes=32_047_531,
        seconds=2.10123,
    )


def node_status(number: int) -> r.NodeStatus:
    return r.NodeStatus(
        node_id=NODE.format(number),
        slot=f"worker-{number}",
        role="worker",
        status="healthy",
        healthy=True,
        model="large",
        capabilities=TAGS,
        autonomy=0.8,
        connections=10,
        incarnation=1,
        rounds_done=16,
        loss=0.661123,
        rows=413,
        memory_bytes=91_234_567,
        memory_limit_bytes=1_073_741_824,
        parameters=834_561,
        pid=41_233,
        placement=None,
        isolation_level="strict",
        pol=None,
        last_error=None,
    )


def status_report(nodes: list[r.NodeStatus], full: bool) -> r.StatusReport:
    return r.StatusReport(
        cluster_id=CLUSTER,
        name="double",
        topology="hierarchical",
        declared_topology="hierarchical",
        architecture="hybrid",
        consensus="byzantine",
        status="training",
        created_at=LONG_AGO,
        uptime="43s",
        uptime_seconds=43,
        active_nodes=11,
        total_nodes=11,
        failed_nodes=0,
        recovering_nodes=0,
        training_status="running",
        training_progress=32.0,
        training_error=None,
        training=r.TrainingProgress(
            training_id=TRAINING,
            current_round=16,
            total_rounds=50,
            current_epoch=16,
            total_epochs=50,
            strategy="federated",
            strategy_reason="federated is true",
            aggregation={"method": "federated_averaging"},
            heterogeneity=0.14,
            shards=None,
            train_loss=PI,
            val_loss=PI,
            best_round=15,
            served_round=None,
            seconds_per_round=2.1,
            eta_seconds=71.0,
            phase="rounds",
            lacks=None,
            personalisation=None,
            folds=None,
            refit=None,
            learning=None,
            resumed=None,
            privacy=None,
            evidence=r.Evidence(
                steps=1180, weights_digest_before="00" * 32, weights_digest_after="71" * 32
            ),
        ),
        global_accuracy=0.602,
        global_loss=0.659,
        evaluation=r.Evaluation(
            test_rows=320,
            aggregation="mean",
            positive_class=1,
            threshold=0.5,
            class_weight=None,
            accuracy_interval=[0.547, 0.654],
            baseline_accuracy=0.513,
            ensemble_accuracy=None,
            balanced_accuracy=0.6,
            auc=0.64,
            brier=0.233,
            log_loss=0.659,
            ece=None,
            confidence=None,
            conformal=None,
            confusion=[[100, 60], [67, 93]],
            per_class=[
                r.ClassScore(label=0, rows=160, precision=0.599, recall=0.625, f1=0.612),
                r.ClassScore(label=1, rows=160, precision=0.608, recall=0.581, f1=0.594),
            ],
            directional_accuracy=None,
            mae=None,
            rmse=None,
            r2=None,
            by_aggregation={
                "mean": {"accuracy": 0.602, "log_loss": 0.659, "brier": 0.233, "ece": None}
            },
            baselines=None,
            best_baseline=None,
            skill=None,
            roles=None,
            data_source="synthetic",
        ),
        communication_bytes=1_602_376_568,
        communication_mb=1602.376568,
        communication=r.Communication(
            inter_host_bytes=0, train=1_602_357_120, predict=0, sync=0, consensus=19_448, links=0
        ),
        exchange=[],
        avg_latency=None,
        latency=r.Latency(p50=None, p95=None, p99=None, n=0),
        agreement=None,
        recent_predictions=[],
        error_rate=0.0,
        memory_usage=9.4,
        memory_bytes=541_065_216,
        memory_source="rss_growth",
        nodes=nodes,
        processes=None,
        retired_nodes=[],
        links=[r.LinkStatus(from_slot="worker-0", to_slot="worker-1", latency_ms=0.02, fault=None)]
        if full
        else None,
        learnt=None,
        guarantees=GUARANTEES,
        consensus_report=None,
        daa=r.DaaReport(
            enabled=True, level_effective=0.8, executed=0, recommended=0, suppressed=0, events=[]
        ),
        performance=r.Performance(throughput=1110.0, latency=None),
        wasm=WASM,
        features=r.Features(
            daa_enabled=True,
            wasm_enabled=False,
            nodes_deployed=11,
            connections_active=10,
            training_sessions=1,
        ),
        model_version=16,
        serving=None,
        feedback=r.FeedbackReport(
            recorded=0,
            kept=0,
            kept_bytes=0,
            weights_source="equal",
            weights_outcomes=0,
            slot_weights=None,
            drift=None,
        )
        if nodes
        else None,
        dataset_info=r.DatasetShort(
            name="double", rows=4000, synthetic=True, task="binary", target="next return > 0"
        ),
        versions=[],
        history=[history_point(i) for i in range(20)] if full else [],
        training_sessions=[],
        timed_out=False,
        changed=True,
        poll_after_ms=2000,
        warnings=[],
    )


def prediction_report(aggregation: q.Aggregation) -> r.PredictionReport:
    return r.PredictionReport(
        cluster_id=CLUSTER,
        prediction_id="prd_0001",
        task="binary",
        prediction=0.5312,
        predictions=[0.5312],
        confidence=0.548,
        confidences=[0.548],
        probabilities=None,
        interval=None,
        prediction_set=[[0, 1]],
        adapted_level=None,
        raw_prediction=0.5402,
        calibrated=True,
        classes=[0, 1],
        positive_class=1,
        threshold=0.5,
        decision=["1"],
        consensus=0.83,
        node_agreement=0.962,
        effective_ensemble_size=6,
        error_correlation=0.81,
        node_predictions={NODE.format(i): 0.5 for i in range(6)},
        individual_predictions=[
            r.IndividualPrediction(
                node_id=NODE.format(0),
                slot="worker-0",
                prediction=0.541,
                latency_ms=4.1,
            )
        ],
        aggregation=aggregation,
        weights_source="equal",
        weights_outcomes=0,
        symbol_experts=None,
        nodes_used=6,
        nodes_expected=6,
        excluded_nodes=[],
        confidence_source="margin",
        source="nodes",
        backends={"torch": 1},
        stacker="fallback" if aggregation == "ensemble" else None,
        degraded=False,
        degraded_reason=None,
        stale=False,
        quorum=None,
        model_version=50,
        bundle_sha="ab12",
        input_report=r.InputReport(
            mode="single",
            rows=1,
            mapped=["price", "features"],
            imputed=["volatility"],
            ignored=[r.IgnoredInput(name="timestamp", reason="time")],
            coverage=0.075,
            ood=[],
            clipped=0,
        ),
        latency_ms=9.7123456,
        synthetic_training_data=True,
        feedback_recorded=0,
        output=None,
        warnings=[],
    )


@asynccontextmanager
async def opened(double: EngineDouble) -> AsyncIterator[EngineDouble]:
    yield double


def not_trained() -> NotTrained:
    return NotTrained(
        "cluster double has no committed version", hint="Call neural_train_distributed first"
    )
