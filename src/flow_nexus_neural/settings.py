"""Settings of the server: limits and paths, read once at start, immutable, passed as an argument."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.vocabulary import DEADLINE_MS, MIN_ROWS

ENV_PREFIX = "FLOW_NEXUS_NEURAL_"
SECRETS = frozenset({"http_token"})
"""Settings that have no flag and are never shown."""
DIRECTORIES = ("state_dir", "data_dir", "start_dir")

IsolationRequirement = Literal["auto", "strict", "seccomp", "process"]
Hostile = Literal["errno", "kill"]
"""Effect of a system call that no library makes in normal use: an errno, or death by SIGSYS."""
RuntimeName = Literal["auto", "ray"]
TrackerName = Literal["none", "tensorboard", "mlflow"]
LogLevel = Literal["debug", "info", "warning", "error"]


def default_state_dir() -> Path:
    """The platform's user state directory for this program."""
    import platformdirs

    return Path(platformdirs.user_state_dir("flow-nexus-neural", appauthor=False))


class Settings(BaseModel):
    """What an operator may set. Every field has an environment variable and, unless secret, a flag.

    Attributes:
        state_dir: Directory of the journal, checkpoints and data; created with mode 0700.
        data_dir: Root of relative data-set paths; None means `<state_dir>/data`.
        start_dir: The directory in which the server was started, also a data root; None if it is not one.
        allow_paths: Further roots from which data may be read and into which predictions may be written.
        max_nodes: Slots per cluster.
        max_clusters: Live clusters per server.
        node_memory_mb: MiB that a `large` node may allocate above its start size; `base` gets half,
            `xl` and `custom` twice as much.
        node_cpu_s: CPU seconds that a `base` or `large` node may use over its life; `xl` and `custom`
            get twice as many.
        total_memory_mb: MiB that all nodes together may use; None is three quarters of the server's own
            limit. Enforced only with a control group.
        cgroup: Put all nodes into one control group, if the system permits the server to create it.
        node_nice: Niceness of nodes relative to the server, so that it answers while they train.
        node_groups: Processes into which the workers of one network are dealt out under raft and gossip, to
            be trained in stacks; `auto` is one per processor, `off` gives each its own process.
        node_ready_timeout_s: Time for a node to confine itself and report ready.
        predict_deadline_ms: Time for one record to be predicted.
        require_isolation: Lowest isolation level at which a deploy succeeds.
        hostile: Whether a system call that no library makes in normal use fails, or kills the node.
        runtime: Where nodes live: `auto`, on this machine; `ray`, on the machines of a Ray cluster.
        ray_address: The cluster: `local` starts one on this machine alone, `auto` joins the one that runs on
            this machine, HOST:PORT one whose head is there.
        max_parameters: Parameters of one network.
        max_rows: Rows of one data set.
        checkpoint_keep: Recent checkpoints kept besides the best and the serving one.
        read_only: Only status, predict, plot, the view and the list of clusters are offered.
        tracker: What besides the history files records the rounds of trainings.
        http_host: Address on which HTTP is served; an address other than loopback needs `http_token`.
        http_token: Bearer token that every HTTP request must carry; set only by the environment, because
            other users can read a command line.
        http_max_connections: Open HTTP connections at one time; further ones get a 503.
        http_max_sessions: Open HTTP sessions at one time; a further one gets a 503.
        http_session_idle_s: Seconds after which a session without a request or an open stream ends.
        http_request_timeout_s: Seconds within which a request must have arrived completely, and within which
            a client must continue to read its answer.
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
    node_groups: str = "off"
    node_ready_timeout_s: float = Field(default=20.0, gt=0)
    predict_deadline_ms: int = Field(default=80, ge=DEADLINE_MS.low, le=DEADLINE_MS.high)
    require_isolation: IsolationRequirement = "auto"
    hostile: Hostile = "errno"
    runtime: RuntimeName = "auto"
    ray_address: str = "local"
    max_parameters: int = Field(default=10_000_000, ge=1)
    max_rows: int = Field(default=1_000_000, ge=MIN_ROWS)
    checkpoint_keep: int = Field(default=5, ge=1)
    read_only: bool = False
    tracker: TrackerName = "none"
    http_host: str = "127.0.0.1"
    http_token: SecretStr | None = Field(default=None, min_length=16)
    http_max_connections: int = Field(default=128, ge=1, le=10_000)
    http_max_sessions: int = Field(default=64, ge=1, le=10_000)
    http_session_idle_s: float = Field(default=1800, gt=0, allow_inf_nan=False)
    http_request_timeout_s: float = Field(default=30, gt=0, allow_inf_nan=False)
    log_level: LogLevel = "warning"
    log_json: bool = False
    _notes_dir: Path | None = PrivateAttr(default=None)

    @field_validator("node_groups")
    @classmethod
    def _is_a_number_of_groups(cls, value: str) -> str:
        if re.fullmatch(r"off|auto|[1-9][0-9]{0,2}", value) is None:
            raise ValueError("expected off, auto or a number of processes, 1 to 999")
        return value

    @field_validator("runtime")
    @classmethod
    def _has_what_is_asked_of_it(cls, value: str, info: ValidationInfo) -> str:
        if value == "ray" and info.data.get("node_groups", "off") != "off":
            raise ValueError("it has no node groups: leave node_groups off")
        return value

    @field_validator("ray_address")
    @classmethod
    def _is_an_address_of_ray(cls, value: str, info: ValidationInfo) -> str:
        if (
            re.fullmatch(r"local|auto|[A-Za-z0-9.\-]+:[0-9]{1,5}|\[[0-9a-f:]+\]:[0-9]{1,5}", value)
            is None
        ):
            raise ValueError("expected local, auto or HOST:PORT")
        if value != "local" and info.data.get("runtime") != "ray":
            raise ValueError("it has no effect without runtime=ray")
        return value

    def groups_on(self, processors: int) -> int | None:
        """Processes for the workers of one network; None where each has its own."""
        if self.node_groups == "off":
            return None
        return max(processors, 1) if self.node_groups == "auto" else int(self.node_groups)

    @property
    def notes_dir(self) -> Path | None:
        """The state directory of which `state_dir` is a copy; None for no copy."""
        return self._notes_dir

    def of_copy(self, state_dir: Path, **changes: object) -> Self:
        """For a copy of the state directory; what is written is noted in the original."""
        copy = self.model_copy(update={"state_dir": state_dir, "data_dir": None, **changes})
        copy._notes_dir = self.state_dir  # noqa: SLF001 - an attribute of this class
        return copy

    @property
    def data_root(self) -> Path:
        """The first directory in which relative data-set paths are looked up."""
        return self.data_dir if self.data_dir is not None else self.state_dir / "data"

    @property
    def data_roots(self) -> tuple[Path, ...]:
        """Every directory from which data may be read, in the order of look-up."""
        started_in = () if self.start_dir is None else (self.start_dir,)
        return (self.data_root, *started_in, *self.allow_paths)

    @property
    def write_roots(self) -> tuple[Path, ...]:
        """Every directory into which predictions may be written; that of the start is none of them."""
        return (self.data_root, *self.allow_paths)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **flags: object) -> Self:
        """Read `FLOW_NEXUS_NEURAL_<FIELD>` variables; flags that are not None win.

        Several paths are separated as in PATH. What is empty is not set: hosts pass on options that their
        users left empty, and as a path an empty text would mean the working directory.

        Raises:
            InvalidArguments: If a variable with the prefix names no field, a value does not fit, or a path
                names something else than a directory.
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
        given = {name: value for name, value in flags.items() if not _is_empty(value)}
        values = {name: value for name, value in values.items() if not _is_empty(value)} | given
        try:
            return cls.model_validate(_with_places(values))
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


def _is_empty(value: object) -> bool:
    """Whether a value says nothing: none, blank text, or only blank parts."""
    if isinstance(value, list):
        return all(_is_empty(part) for part in value)
    return value is None or (isinstance(value, str) and not value.strip())


def _with_places(values: Mapping[str, object]) -> dict[str, object]:
    """The values with every path expanded and checked, and without empty parts of lists of paths."""
    placed = dict(values)
    for field in DIRECTORIES:
        if field in placed:
            placed[field] = _place(field, str(placed[field]))
    paths = placed.get("allow_paths")
    if isinstance(paths, list):
        placed["allow_paths"] = [
            _place("allow_paths", str(path)) for path in paths if not _is_empty(path)
        ]
    return placed


def _place(field: str, text: str) -> Path:
    """A directory as it was meant: `~` and variables expanded, relative to the working directory.

    Raises:
        InvalidArguments: If something is left to expand, or the path names something else.
    """
    text = text.strip()
    expanded = os.path.expanduser(os.path.expandvars(text))
    flag = "--allow-path" if field == "allow_paths" else f"--{field.replace('_', '-')}"
    hint = f"give {flag} or {ENV_PREFIX}{field.upper()} the path of a directory, written out"
    path = Path(os.path.abspath(expanded))
    # An empty variable would make a place inside a home out of the working or the root directory.
    emptied = expanded != text and (not expanded or path == Path(path.anchor))
    if "$" in expanded or expanded.startswith("~") or emptied:
        raise InvalidArguments(f"setting {field}={text!r} cannot be expanded", hint=hint)
    if os.path.exists(path) and not os.path.isdir(path):
        raise InvalidArguments(f"setting {field}={text!r} is no directory", hint=hint)
    return path
