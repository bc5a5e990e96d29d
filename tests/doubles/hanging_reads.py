"""The product on a file system that hangs: reading a file called `hang...` never returns.

Of a file called `late...`, what is done after reading it never returns; the engine cannot leave that behind.
Arguments are those of the product. For each call that hangs, `hung` is appended to the file named by the
environment variable HUNG.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

from flow_nexus_neural.__main__ import main
from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.partition import Shards
from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.engine.training import preparation

_read = DataFile._read
_cut_shards = preparation.cut_shards


def _hang() -> None:
    with Path(os.environ["HUNG"]).open("a") as marks:
        marks.write("hung\n")
    threading.Event().wait()


def _hanging_read(self: DataFile, place: int) -> bytes:
    if self.name.startswith("hang"):
        _hang()
    return _read(self, place)


def _hanging_cut(data: PreparedData, *arguments: Any) -> Shards:
    if data.description.name.startswith("late"):
        _hang()
    return _cut_shards(data, *arguments)


DataFile._read = _hanging_read  # type: ignore[method-assign]
preparation.cut_shards = _hanging_cut

if __name__ == "__main__":
    sys.exit(main())
