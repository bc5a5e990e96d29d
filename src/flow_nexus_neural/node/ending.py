"""The end of a node's process: an exit status that the runtime reads, and a traceback after an error."""

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
    """Ends the process at the end of its block, however the block ends.

    A forked child must not return into the zygote's frames, where it would serve the zygote's control socket.
    """

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
    """Format an exception once, to import what that needs: a confined node could not import it any more."""
    try:
        json.loads("")
    except ValueError as failure:
        traceback.format_exception(failure)
