"""Short names of the test files that promises name; a file that moves is changed here alone."""


class TestFile(str):
    """A path; `FILE / "a_thing_holds"` is the node id of its `test_a_thing_holds`."""

    __slots__ = ()
    __test__ = False

    def __truediv__(self, name: str) -> str:
        return f"{self}::test_{name}"


# Through the tools: server and engine are real.
BUILD = TestFile("tests/integration/test_building_a_cluster.py")
USE = TestFile("tests/integration/test_using_a_cluster.py")
RECOVER = TestFile("tests/integration/test_recovering_a_node.py")
MEMORY = TestFile("tests/integration/test_memory_of_nodes.py")
ERRORS = TestFile("tests/integration/test_error_codes.py")
REAL = TestFile("tests/integration/test_real_server.py")
BAD_CONTENT = TestFile("tests/integration/test_malformed_content.py")
EXAMPLES = TestFile("tests/integration/test_examples.py")
COMMANDS = TestFile("tests/integration/test_commands.py")
README = TestFile("tests/integration/test_readme.py")

# The MCP layer, over a double of the engine or as clients meet it.
ARGS = TestFile("tests/integration/test_arguments.py")
TOOLS = TestFile("tests/integration/test_tool_list.py")
RESULTS = TestFile("tests/integration/test_tool_results.py")
FAILURES = TestFile("tests/integration/test_failures.py")
BAD_CALLS = TestFile("tests/integration/test_malformed_calls.py")
RESOURCES = TestFile("tests/integration/test_resources.py")
PROGRESS = TestFile("tests/integration/test_progress.py")
STDIO = TestFile("tests/integration/test_stdio.py")
HTTP = TestFile("tests/integration/test_http.py")
CONFIGS = TestFile("tests/integration/test_client_configs.py")
CLIENTS = TestFile("tests/integration/clients/test_clients.py")
SUITE = TestFile("tests/integration/mcp_suite/test_conformance.py")
FLAGS = TestFile("tests/unit/cli/test_flags.py")
HOST = TestFile("tests/unit/server/test_host.py")
ROUNDING = TestFile("tests/unit/server/test_rounding.py")
STATUS_SIZE = TestFile("tests/unit/server/test_status_size.py")
LIFETIME = TestFile("tests/fault/test_lifetime.py")

# The engine.
LIFE = TestFile("tests/sim/test_cluster_life.py")
DEPLOY = TestFile("tests/sim/test_deploying.py")
PREDICT = TestFile("tests/sim/test_predicting.py")
FAULTS = TestFile("tests/sim/test_training_faults.py")
LIARS = TestFile("tests/sim/test_lying_nodes.py")
CHAOS = TestFile("tests/sim/test_random_faults.py")
SEEDS = TestFile("tests/sim/test_determinism.py")
LOCAL = TestFile("tests/integration/test_engine_local.py")
KILL = TestFile("tests/fault/test_engine_kill.py")
LINKS = TestFile("tests/fault/test_links.py")
ROGUES = TestFile("tests/fault/test_rogues.py")
STORE_KILL = TestFile("tests/fault/test_store_kill.py")
ANSWER = TestFile("tests/unit/engine/prediction/test_reply.py")
AUTONOMY_LOG = TestFile("tests/unit/engine/autonomy/test_observe.py")
CALIBRATING = TestFile("tests/unit/engine/versions/test_calibration.py")
METRICS = TestFile("tests/unit/engine/state/test_metrics.py")
REPORTING = TestFile("tests/unit/engine/operations/test_status.py")
WAITING = TestFile("tests/unit/engine/operations/test_wait.py")
TRAIN_ARGS = TestFile("tests/unit/engine/training/test_arguments.py")
AUTONOMY = TestFile("tests/unit/coordination/test_autonomy.py")
GUARANTEES = TestFile("tests/unit/coordination/test_guarantees.py")
LEDGER = TestFile("tests/unit/coordination/test_ledger.py")
MEMBERSHIP = TestFile("tests/unit/coordination/test_membership.py")
ROUNDS = TestFile("tests/unit/coordination/test_rounds.py")
SAMPLING = TestFile("tests/unit/coordination/test_sampling.py")
TOPOLOGY = TestFile("tests/unit/coordination/test_topology.py")
AVERAGING = TestFile("tests/unit/kernels/test_averaging.py")
CALIBRATION = TestFile("tests/unit/kernels/test_calibration.py")
ENSEMBLE = TestFile("tests/unit/kernels/test_ensemble.py")
SCORES = TestFile("tests/unit/kernels/test_metrics.py")
ROBUST = TestFile("tests/unit/kernels/test_robust.py")

# Data.
ADAPTER = TestFile("tests/unit/data/test_adapter.py")
ANY_RECORD = TestFile("tests/property/test_data_adapter.py")
INLINE = TestFile("tests/unit/data/test_inline.py")
PARTITION = TestFile("tests/unit/data/test_partition.py")
PREPARE = TestFile("tests/unit/data/test_prepare.py")
READERS = TestFile("tests/unit/data/test_readers.py")
RESOLVE = TestFile("tests/unit/data/test_resolve.py")
SPLITS = TestFile("tests/unit/data/test_splits.py")
SYNTHETIC = TestFile("tests/unit/data/test_synthetic.py")

# Networks and nodes.
DEFAULTS = TestFile("tests/unit/networks/test_defaults.py")
LEARN = TestFile("tests/unit/networks/test_default_networks_learn.py")
HEADS = TestFile("tests/unit/networks/test_heads.py")
KERAS = TestFile("tests/unit/networks/test_keras_oracle.py")
PLANNER = TestFile("tests/unit/networks/test_planner.py")
SIGNALS = TestFile("tests/unit/networks/test_signals.py")
TENSORS = TestFile("tests/unit/networks/test_tensors.py")
VOCABULARY = TestFile("tests/unit/networks/test_vocabulary.py")
ATTENTION = TestFile("tests/unit/node/test_attention.py")
CONVOLUTION = TestFile("tests/unit/node/test_convolution.py")
LAYERS = TestFile("tests/unit/node/test_layers.py")
NORMALIZATION = TestFile("tests/unit/node/test_normalization.py")
OPTIMIZERS = TestFile("tests/unit/node/test_optimizers.py")
RECURRENT = TestFile("tests/unit/node/test_recurrent.py")
TRAINER = TestFile("tests/unit/node/test_trainer.py")
WARMUP = TestFile("tests/unit/node/test_warmup.py")
WEIGHTS = TestFile("tests/unit/node/test_weights.py")
NODES = TestFile("tests/conformance/test_runtime_promises.py")
NODE_FAULTS = TestFile("tests/fault/test_node_faults.py")
DISPATCH = TestFile("tests/unit/protocol/test_dispatch.py")
INPROC_FAULTS = TestFile("tests/unit/runtime/inproc/test_inproc_faults.py")
ESCAPES = TestFile("tests/security/test_escape_battery.py")
CONFINED = TestFile("tests/security/test_real_nodes.py")

# The rest.
TRADING = TestFile("tests/unit/client_examples/test_trading.py")
COMMITTED = TestFile("tests/unit/bench/test_committed_results.py")
CODE = TestFile("tests/unit/test_architecture.py")
RECORD = TestFile("tests/unit/engine/state/test_training_record.py")
REGISTRIES = TestFile("tests/unit/node/test_registries.py")
