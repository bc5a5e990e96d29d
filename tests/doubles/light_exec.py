"""The real node started by exec around the services of the light zygote. Run as a script, isolated."""

import importlib.util
from pathlib import Path

from flow_nexus_neural.node.exec_node import serve

_spec = importlib.util.spec_from_file_location(
    "light_zygote", Path(__file__).with_name("light_zygote.py")
)
_light = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_light)

if __name__ == "__main__":
    serve(_light.prepare)
