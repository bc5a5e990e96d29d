"""What runtimes offer is data that they measured, and what the engine says follows from it alone."""

import os

import pytest

from flow_nexus_neural.cli.no_nodes import NoNodes
from flow_nexus_neural.engine.nodes.lifecycle import isolation_warnings
from flow_nexus_neural.runtime.base import Capabilities, Isolation
from flow_nexus_neural.runtime.exec.runtime import ExecRuntime
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.process import isolation
from flow_nexus_neural.settings import Settings
from tests.doubles.linear_service import LinearService


def inproc(**more):
    return InprocRuntime(lambda spec: LinearService(), **more)


@pytest.fixture
def one_processor():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:1])
    yield 1
    os.sched_setaffinity(0, before)


def test_places_are_the_processors_that_this_process_may_use(one_processor):
    for runtime in (LocalRuntime(Settings()), ExecRuntime(Settings()), inproc()):
        assert runtime.capabilities.places == one_processor


def test_places_of_simulated_nodes_are_chosen_and_inline_the_same_on_every_machine(one_processor):
    assert inproc(places=3).capabilities.places == 3
    assert inproc(inline=True).capabilities.places == 4
    assert inproc(inline=True, places=2).capabilities.places == 2


def test_memory_is_shared_where_arrays_do_not_travel_in_frames():
    shared = LocalRuntime(Settings()).capabilities
    carried = LocalRuntime(Settings(), shared_memory=False).capabilities
    assert (shared.shared_memory, shared.peer_views) == (True, True)
    for offered in (carried, ExecRuntime(Settings()).capabilities, inproc().capabilities):
        assert (offered.shared_memory, offered.peer_views) == (False, False)


def test_nodes_that_are_processes_are_told_from_those_that_are_not():
    assert LocalRuntime(Settings()).capabilities.processes
    assert ExecRuntime(Settings()).capabilities.processes
    assert not inproc().capabilities.processes
    assert NoNodes.capabilities == Capabilities(places=1, isolation="unknown")


@pytest.mark.parametrize(
    ("system", "best"),
    [("linux", "strict"), ("darwin", "seatbelt"), ("win32", "job"), ("sunos5", "process")],
)
def test_the_best_level_is_that_of_the_system_and_no_isolation_in_process(
    monkeypatch, system, best
):
    monkeypatch.setattr(isolation.sys, "platform", system)
    assert ExecRuntime(Settings()).capabilities.isolation == best
    assert inproc().capabilities.isolation == "none"


def test_a_level_below_the_best_of_its_runtime_is_a_warning_that_names_what_is_missing():
    weak = Isolation("process", missing=("seccomp", "landlock"))
    assert isolation_warnings(weak, "strict") == [
        "isolation is 'process', not 'strict'; missing: seccomp, landlock"
    ]
    assert isolation_warnings(weak, "seatbelt") == [
        "isolation is 'process', not 'seatbelt'; missing: seccomp, landlock"
    ]
    assert isolation_warnings(weak, "process") == []
