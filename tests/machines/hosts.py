"""Two machines on one: two Ray nodes in two network namespaces, joined by a pair of virtual cables."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.doubles.limits import HANG_S

HEAD, OTHER = "10.77.0.1", "10.77.0.2"
ADDRESS = f"{HEAD}:6379"
KEEPER = (sys.executable, "-I", "-m", "flow_nexus_neural.runtime.ray.keeper")
FIRST_AND_SECOND = "first.example", "second.example"
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "5",
}


class Machine:
    """A Ray node that its own keeper ends, with whatever it started."""

    def __init__(self, number, home, environment, *arguments):
        self.namespace = _namespace(FIRST_AND_SECOND[number])
        self._home = home
        self._environment = environment
        self._arguments = arguments
        self._lifeline = None
        self.process = None

    def start(self):
        lifeline, self._lifeline = os.pipe()
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", *self._arguments]
        with (self._home / "raylets.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.inside(),
                    *KEEPER,
                    str(lifeline),
                    str(os.getpid()),
                    *ray,
                ],
                pass_fds=(lifeline,),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(lifeline)

    def inside(self):
        return ["nsenter", "-t", str(self.namespace.pid), "-n", "-u", "--"]

    def stop(self):
        """As a machine that loses its power: every process of it is killed at once."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
            self.process.send_signal(signal.SIGCONT)  # where a test froze it
            self.process.wait(HANG_S)

    def close(self):
        self.stop()
        self.namespace.kill()
        self.namespace.wait()


def _namespace(name):
    """A process whose network and host name are its own."""
    command = ["unshare", "-n", "-u", "sh", "-c", f"hostname {name} && echo && exec sleep 100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    return process


def ip(*words, inside=()):
    subprocess.run([*inside, "ip", *words], check=True)


@contextmanager
def two_machines():
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-")))
        token = home / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        environment = {
            "PATH": os.environ["PATH"],
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            **HEALTH,
        }
        common = (
            "--num-cpus=1",
            "--object-store-memory=150000000",
            "--disable-usage-stats",
        )
        first = Machine(
            0,
            home,
            environment,
            "--head",
            "--port=6379",
            f"--node-ip-address={HEAD}",
            "--include-dashboard=false",
            f"--temp-dir={home}",
            *common,
        )
        stack.callback(first.close)
        second = Machine(
            1,
            home,
            environment,
            f"--address={ADDRESS}",
            f"--node-ip-address={OTHER}",
            *common,
        )
        stack.callback(second.close)
        ip("link", "add", "cable0", "type", "veth", "peer", "name", "cable1")
        for machine, cable, address in ((first, "cable0", HEAD), (second, "cable1", OTHER)):
            ip("link", "set", cable, "netns", str(machine.namespace.pid))
            inside = machine.inside()
            ip("addr", "add", f"{address}/24", "dev", cable, inside=inside)
            ip("link", "set", cable, "up", inside=inside)
            ip("link", "set", "lo", "up", inside=inside)
        first.start()
        _until_it_listens(first)
        second.start()
        _until_both_run(home / "raylets.log", first, second)
        yield Machines(first, second, environment, home)


class Machines:
    """Both, and what a server on the first one needs to join them."""

    def __init__(self, first, second, environment, home):
        self.first = first
        self.second = second
        self.environment = environment
        self.home = home

    def server(self, *flags):
        """The command of a server on the first machine."""
        server = [sys.executable, "-m", "flow_nexus_neural", *flags]
        return [*self.first.inside(), *server, "--runtime", "ray", "--ray-address", ADDRESS]

    def processes_of(self, machine):
        """Process ids of a machine, by their command lines."""
        wanted = os.readlink(f"/proc/{machine.namespace.pid}/ns/net")
        found = {}
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{name}/ns/net") == wanted:
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found


def freeze(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def _until_both_run(log, *machines):
    ends = time.monotonic() + HANG_S
    while log.read_text().count("Ray runtime started.") < len(machines):
        if time.monotonic() > ends or any(one.process.poll() is not None for one in machines):
            raise TimeoutError(f"a Ray node does not start: {log.read_text()[-500:]}")
        time.sleep(0.2)


def _until_it_listens(machine):
    probe = f"import socket; socket.create_connection(('{HEAD}', 6379), 1)"
    ends = time.monotonic() + HANG_S
    while True:
        command = [*machine.inside(), sys.executable, "-I", "-c", probe]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        if time.monotonic() > ends or machine.process.poll() is not None:
            raise TimeoutError("the head of the Ray cluster does not listen")
        time.sleep(0.2)
