"""Measurements of this project beside plain references, each in the same run and on the same work.

The harness speaks to the server through the examples' own client and builds the examples' cluster, so that
what is measured is what a reader can run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "client_examples"))
