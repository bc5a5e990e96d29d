"""A state directory for every server: two applications with one configuration must not lock each other out.

Only one server can have a state directory. Where nobody chose one, a second server takes the next directory
beside the default one, and says so in its replies. One that was chosen is refused when it is taken.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flow_nexus_neural.engine.context import Notices
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.errors import StateDirLocked
from flow_nexus_neural.settings import Settings

if TYPE_CHECKING:
    from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess

MAX_SERVERS = 9

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_engine_beside_others(
    settings: Settings, zygote: "Callable[[], ZygoteProcess | None]"
) -> AsyncIterator[Engine]:
    """Open the engine in the chosen state directory, or in the first of the default ones that is free.

    Raises:
        StateDirLocked: It was chosen and another server has it, or other servers have all default ones.
        StoreUnavailable, StoreCorrupt: It cannot be used.
    """
    chosen = "state_dir" in settings.model_fields_set
    places = [settings.state_dir] if chosen else default_places(settings.state_dir)
    async with AsyncExitStack() as stack:
        for place in places:
            try:
                engine = await stack.enter_async_context(
                    Engine.open(
                        _placed(settings, place), zygote=zygote, notices=_notices(places, place)
                    )
                )
            except StateDirLocked:
                if place is places[-1]:
                    raise
                continue
            yield engine
            return


def default_places(state_dir: Path) -> list[Path]:
    """The directories that servers of one user take one after the other."""
    others = range(2, MAX_SERVERS + 1)
    return [state_dir, *(state_dir.with_name(f"{state_dir.name}-{n}") for n in others)]


def _placed(settings: Settings, place: Path) -> Settings:
    """The settings of a server in this directory; its data are read where all servers read them."""
    if place == settings.state_dir:
        return settings
    return settings.model_copy(update={"state_dir": place, "data_dir": settings.data_root})


def _notices(places: list[Path], place: Path) -> Notices:
    """What callers should know of the other directories."""
    used = [other for other in places if other != place and (other / "state.db").exists()]
    named = ", ".join(map(str, used))
    elsewhere = (
        f"clusters of servers that ran beside this one are in {named}: --state-dir leads to them"
    )
    if place == places[0]:
        return Notices(lists=(elsewhere,) if used else ())
    notice = (
        f"another server has the state directory {places[0]}, so this one keeps its clusters in {place}; its"
        f" own directory for good is given by --state-dir"
    )
    log.warning("%s", notice)
    return Notices(always=(notice,), lists=(elsewhere,) if used else ())
