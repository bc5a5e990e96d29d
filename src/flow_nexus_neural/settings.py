"""Frozen limits and places, read once at start and passed by argument."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.vocabulary import DEADLINE_MS, MIN_ROWS

ENV_PREFIX = "FLOW_NEXUS_NEURAL_"
SECRETS = frozenset({"http_token"})
"""Settings that have no flag and are never shown."""

IsolationRequirement = Literal["auto", "strict", "seccomp", "process"]
Hostile = Literal["errno", "kill"]
"""What happens on a call that no honest node makes: an errno, or death by SIGSYS."""
LogLevel = Literal["debug", "info", "warning", "error"]


def default_state_dir() -> Path:
    """The platform's user state directory for this program."""
    import platformdirs

    return Path(platformdirs.user_state_dir("flow-nexus-neural", appauthor=False))


class Settings(BaseModel):
    """What an operator may set. Every field has a flag and an environment variable of its name.

    Attributes:
        state_dir: Holds the journal, checkpoints and data; created with mode 0700.
        data_dir: Root of relative data-set paths; None means `<state_dir>/data`.
        start_dir: The directory in which the server was started; a data root too. None disables it.
        allow_paths: Further roots from which data may be read.
        max_nodes: Slots per cluster.
        max_clusters: Live clusters per server.
        node_memory_mb: MiB that a `large` node may allocate above its start size; `base` gets half,
            `xl` and `custom` twice as much.
        node_cpu_s: CPU seconds that a `base` or `large` node may use over its life; `xl` and `custom`
            get twice as many.
        total_memory_mb: MiB that all nodes together may use; None is three quarters of what the server may.
            Only in force with a control group.
        cgroup: Put all nodes into a control group of their own, where the system lets the server make one.
        node_nice: Steps of scheduling priority by which nodes stand behind the server, so that it answers
            while they train.
        node_ready_timeout_s: Time for a node to confine itself and report ready.
        predict_deadline_ms: Time for one record to be predicted.
        require_isolation: Lowest isolation level at which deploying still succeeds.
        hostile: What a node gets for a system call that no honest node makes: an error, or its end.
        max_parameters: Parameters of one network.
        max_rows: Rows of one data set.
        checkpoint_keep: Recent checkpoints kept besides the best and the serving one.
        read_only: Only status, predict and the list of clusters are offered.
        http_host: Address that HTTP is served on; one that is not loopback needs `http_token`.
        http_token: Bearer token that every HTTP request must carry; given by the environment alone, because
            other users can read a command line.
        http_max_connections: Connections that are open at one time over HTTP; further ones get a 503.
        http_max_sessions: Sessions that are open at one time over HTTP; a further one gets a 503.
        http_session_idle_s: Seconds after which a session without a request or an open stream ends.
        http_request_timeout_s: Seconds in which a request must have come in whole, and in which a client
            must go on reading its answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Path = Field(default_factory=default_state_dir)
    data_dir: Path | None = None
    start_dir: Path | None = None
    allow_paths: tuple[Path, ...] = ()
    max_nodes: int = Field(default=32, ge=1, le=256)
    max_clusters: int = Field(default=8, ge=1, le=256)
    node_memory_mb: int = Field(default=1024, ge=64)
    node_cpu_s: int = Field(default=86_400, ge=10)
    total_memory_mb: int | None = Field(default=None, ge=256)
    cgroup: bool = True
    node_nice: int = Field(default=5, ge=0, le=19)
    node_ready_timeout_s: float = Field(default=20.0, gt=0)
    predict_deadline_ms: int = Field(default=80, ge=DEADLINE_MS.low, le=DEADLINE_MS.high)
    require_isolation: IsolationRequirement = "auto"
    hostile: Hostile = "errno"
    max_parameters: int = Field(default=10_000_000, ge=1)
    max_rows: int = Field(default=1_000_000, ge=MIN_ROWS)
    checkpoint_keep: int = Field(default=5, ge=1)
    read_only: bool = False
    http_host: str = "127.0.0.1"
    http_token: SecretStr | None = Field(default=None, min_length=16)
    http_max_connections: int = Field(default=128, ge=1, le=10_000)
    http_max_sessions: int = Field(default=64, ge=1, le=10_000)
    http_session_idle_s: float = Field(default=1800, gt=0, allow_inf_nan=False)
    http_request_timeout_s: float = Field(default=30, gt=0, allow_inf_nan=False)
    log_level: LogLevel = "warning"
    log_json: bool = False

    @property
    def data_root(self) -> Path:
        """Where relative data-set paths are looked up first."""
        return self.data_dir if self.data_dir is not None else self.state_dir / "data"

    @property
    def data_roots(self) -> tuple[Path, ...]:
        """Every directory from which data may be read, in the order of look-up."""
        started_in = () if self.start_dir is None else (self.start_dir,)
        return (self.data_root, *started_in, *self.allow_paths)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **flags: object) -> Self:
        """Read `FLOW_NEXUS_NEURAL_<FIELD>` variables; flags that are not None win.

        Several paths are separated as in PATH.

        Raises:
            InvalidArguments: If a variable with the prefix names no field, or a value does not fit.
        """
        values: dict[str, object] = {}
        for name, text in environ.items():
            if not name.startswith(ENV_PREFIX):
                continue
            field = name.removeprefix(ENV_PREFIX).lower()
            if field not in cls.model_fields:
                raise InvalidArguments(
                    f"environment variable {name} names no setting",
                    hint="settings are " + ", ".join(sorted(cls.model_fields)),
                )
            values[field] = text.split(os.pathsep) if field == "allow_paths" else text
        values.update({name: value for name, value in flags.items() if value is not None})
        try:
            return cls.model_validate(values)
        except ValidationError as failure:
            first = failure.errors(include_url=False, include_input=True)[0]
            place = ".".join(str(part) for part in first["loc"])
            variable = f"{ENV_PREFIX}{place.upper()}"
            secret = place in SECRETS
            raise InvalidArguments(
                f"setting {place}{'' if secret else '=' + repr(first['input'])} is not valid:"
                f" {first['msg']}",
                hint=f"change {variable if secret else '--' + place.replace('_', '-') + ' or ' + variable}",
            ) from failure
