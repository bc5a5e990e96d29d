"""The product on a file system that hangs: reading a file called `hang...` never returns.

Arguments are those of the product. For each read that hangs, `hung` is appended to the file named by the
environment variable HUNG.
"""

import os
import sys
import threading
from pathlib import Path

from flow_nexus_neural.data.data_file import DataFile

_read = DataFile._read


def _hanging(self: DataFile, place: int) -> bytes:
    if self.name.startswith("hang"):
        with Path(os.environ["HUNG"]).open("a") as marks:
            marks.write("hung\n")
        threading.Event().wait()
    return _read(self, place)


DataFile._read = _hanging  # type: ignore[method-assign]

from flow_nexus_neural.__main__ import main  # noqa: E402 - what it imports finds the method replaced

if __name__ == "__main__":
    sys.exit(main())
