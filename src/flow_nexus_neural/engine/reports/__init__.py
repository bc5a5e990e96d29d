"""What the engine reports: every number measured, every unknown None, no field with a default.

The server adds the aliases that clients know (`id`, `sandbox_id`, `session_id`, ...) and nothing else.
Importing this package loads neither numpy nor the engine.
"""

from flow_nexus_neural.engine.reports.base import Exclusion, Guarantees, Report, Wasm
from flow_nexus_neural.engine.reports.cluster import (
    ClusterConfig,
    ClusterLine,
    ClusterList,
    ClusterReport,
    FinalMetrics,
    IsolationPreview,
    Limits,
    Restored,
    TerminateReport,
)
from flow_nexus_neural.engine.reports.connection import (
    AggregationReport,
    ConnectReport,
    Edge,
    Rebalanced,
)
from flow_nexus_neural.engine.reports.node import IsolationReport, NodeReport
from flow_nexus_neural.engine.reports.prediction import (
    IgnoredInput,
    IndividualPrediction,
    InputReport,
    Interval,
    PredictionReport,
)
from flow_nexus_neural.engine.reports.status import (
    ClassScore,
    Communication,
    DaaReport,
    DatasetShort,
    Evaluation,
    Features,
    Latency,
    NodeStatus,
    Performance,
    Serving,
    StatusReport,
)
from flow_nexus_neural.engine.reports.training import (
    DatasetInfo,
    Evidence,
    ExcludedColumn,
    HistoryPoint,
    HistoryReport,
    NetworkInfo,
    SplitSizes,
    TrainingConfig,
    TrainingProgress,
    TrainingReport,
    TrainingSession,
)

__all__ = [
    "AggregationReport",
    "ClassScore",
    "ClusterConfig",
    "ClusterLine",
    "ClusterList",
    "ClusterReport",
    "Communication",
    "ConnectReport",
    "DaaReport",
    "DatasetInfo",
    "DatasetShort",
    "Edge",
    "Evaluation",
    "Evidence",
    "ExcludedColumn",
    "Exclusion",
    "Features",
    "FinalMetrics",
    "Guarantees",
    "HistoryPoint",
    "HistoryReport",
    "IgnoredInput",
    "IndividualPrediction",
    "InputReport",
    "Interval",
    "IsolationPreview",
    "IsolationReport",
    "Latency",
    "Limits",
    "NetworkInfo",
    "NodeReport",
    "NodeStatus",
    "Performance",
    "PredictionReport",
    "Rebalanced",
    "Report",
    "Restored",
    "Serving",
    "SplitSizes",
    "StatusReport",
    "TerminateReport",
    "TrainingConfig",
    "TrainingProgress",
    "TrainingReport",
    "TrainingSession",
    "Wasm",
]
