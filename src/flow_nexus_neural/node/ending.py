"""How the process of a node ends: a status that the runtime can read, and a traceback where there is one."""

import json
import os
import sys
import traceback
from types import TracebackType
from typing import Final, Self

from flow_nexus_neural.node.confinement.apply import ConfinementFailed

NODE_BUG: Final = 70
CONFINEMENT_FAILED: Final = 71


class NeverReturns:
    """A block that ends the process however it ends: a child must not unwind into its parent's frames."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(failure, SystemExit) and failure.code in (0, None):
            os._exit(0)
        if failure is not None:
            traceback.print_exception(kind, failure, trace, file=sys.stderr)
            sys.stderr.flush()
        os._exit(CONFINEMENT_FAILED if isinstance(failure, ConfinementFailed) else NODE_BUG)


def rehearse_last_words() -> None:
    """Import what a traceback needs: a confined node that fails could not any more."""
    try:
        json.loads("")
    except ValueError as failure:
        traceback.format_exception(failure)
