"""Where Ray keeps its files, and with what it proves who it is."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flow_nexus_neural.errors import RuntimeUnavailable

INSTALL: Final = "pip install 'flow-nexus-neural[ray]'"
LOCAL: Final = "local"
_SOCKET_PATH_BYTES: Final = 107
_LONGEST_SOCKET: Final = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_TOKEN_BYTES: Final = 32
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Session:
    """The files of one driver.

    Attributes:
        directory: Private to this user; Ray's sockets and logs lie below it.
        log: What the driver and Ray write.
        environment: Of the driver, and of what it starts.
        passing: The directory is not in the state directory, where the paths of sockets would be too long.
    """

    directory: Path
    log: Path
    environment: Mapping[str, str]
    passing: bool

    def log_tail(self, nbytes: int = 2048) -> str:
        """The end of the log."""
        try:
            return self.log.read_bytes()[-nbytes:].decode("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        """Remove what would be left outside of the state directory."""
        if self.passing:
            shutil.rmtree(self.directory, ignore_errors=True)


def require_ray() -> None:
    """Make sure that Ray is installed, without importing it.

    Raises:
        RuntimeUnavailable: It is not.
    """
    if find_spec("ray") is None:
        raise RuntimeUnavailable(
            "--runtime ray needs Ray, which is not installed", hint=f"run {INSTALL}"
        )


def prepare(state_dir: Path, environ: Mapping[str, str]) -> Session:
    """Make the directory, the token and the environment of a driver.

    What an earlier driver of this state directory has left is removed: only one server at a time has it.

    Args:
        state_dir: Of the server.
        environ: Its environment; Ray's own variables in it are passed on.
    """
    home = state_dir / "ray"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    for old in home.glob("session_*"):
        if old.is_symlink():
            old.unlink()
        else:
            shutil.rmtree(old, ignore_errors=True)
    token = home / "token"
    if not token.exists():
        _write_token(token)
    passing = len(os.fsencode(home)) + len(_LONGEST_SOCKET) > _SOCKET_PATH_BYTES
    directory = Path(tempfile.mkdtemp(prefix="fnn-ray-")) if passing else home
    environment = {
        "RAY_AUTH_TOKEN_PATH": str(token),
        **{name: environ[name] for name in _PASSED_ON if name in environ},
        **{name: value for name, value in environ.items() if name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return Session(directory, home / "driver.log", environment, passing)


def _write_token(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(_TOKEN_BYTES))
