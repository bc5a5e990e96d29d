"""Freed memory under the settings of the nodes: it serves the next step, until it is given back."""

import json
import subprocess
import sys

from flow_nexus_neural.runtime.process.environment import ENVIRONMENT

FREED_MB = 24
SCRIPT = f"""
import json, resource
from flow_nexus_neural.node.free_memory import CAN_RETURN_FREE_MEMORY, return_free_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_mb():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * resource.getpagesize() / 2**20

def write_and_free():
    blocks = [bytearray(b"x") * 2**20 for _ in range({FREED_MB})]
    return blocks[-1]

kept = write_and_free()
held, before = resident_mb(), faults()
kept = write_and_free()
again = faults() - before
return_free_memory()
print(json.dumps(dict(can=CAN_RETURN_FREE_MEMORY, again=again, returned=held - resident_mb())))
"""


def found(environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_freed_memory_serves_the_next_step_and_is_given_back_when_asked_for():
    told = found(ENVIRONMENT)
    assert told["can"]
    assert told["again"] < FREED_MB * 2**20 / 4096 / 4, "the next step faulted its memory in again"
    assert told["returned"] > FREED_MB / 2
