"""No test fails because a machine is slow: what waits for something to happen at all waits for `HANG_S`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.limits import HANG_S
from tests.doubles.programs import run_to_end

TESTS = Path(__file__).parents[1]
SETTINGS = TESTS.parent / "pyproject.toml"
LIMITS = {"fail_after": 0, "settimeout": 0, "until": 1, "wait": 0, "timeout": 0}
"""Calls that fail when time is up, and which argument says when."""
KEYWORDS = ("timeout", "timeout_s")


def own_limits(source):
    """Lines on which a call has a number of its own as its limit; 0 is no wait."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        at = LIMITS.get(name)
        given = [node.args[at]] if at is not None and len(node.args) > at else []
        given += [one.value for one in node.keywords if one.arg in KEYWORDS]
        if any(isinstance(one, ast.Constant) and one.value for one in given):
            found.append(node.lineno)
    return found


def test_no_test_has_a_limit_of_its_own():
    files = {path.relative_to(TESTS).as_posix(): path for path in TESTS.rglob("*.py")}
    own = {name: own_limits(path.read_text(encoding="utf-8")) for name, path in files.items()}
    assert {name: lines for name, lines in own.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "anyio.fail_after(5)",
        "subprocess.run(command, timeout=30)",
        "client.settimeout(1.5)",
        "pytest.mark.timeout(60)",
        "event.wait(20)",
    ],
)
def test_a_limit_of_its_own_is_found(line):
    assert own_limits(line) == [1]
    assert own_limits(re.sub(r"[\d.]+(?=\))", "HANG_S", line)) == []


def test_a_wait_that_hangs_is_named_before_the_whole_test_is_ended():
    (line,) = [one for one in SETTINGS.read_text().splitlines() if one.startswith("timeout = ")]
    assert int(line.split()[2]) >= 3 * HANG_S


def test_a_program_is_waited_for_as_long_as_it_gets_on():
    code = "import time\nend = time.process_time() + 1\nwhile time.process_time() < end: pass\nprint('done')"
    done = run_to_end([sys.executable, "-c", code], hang_s=0.2 + 2 * 0.5)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_program_that_does_nothing_is_ended_and_what_it_said_is_told():
    code = "import sys, time\nprint('waiting', flush=True)\ntime.sleep(3600)"
    with pytest.raises(AssertionError, match="did nothing for 1 s; it had said\nwaiting"):
        run_to_end([sys.executable, "-c", code], hang_s=1)


def test_a_program_has_no_input_and_its_status_is_told():
    code = "import sys\nprint(repr(sys.stdin.read()))\nsys.exit(3)"
    done = run_to_end([sys.executable, "-c", code])
    assert (done.returncode, done.stdout) == (3, "''\n")
    assert isinstance(done, subprocess.CompletedProcess)
