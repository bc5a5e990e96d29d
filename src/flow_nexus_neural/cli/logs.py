"""Logging to standard error, quiet by default; one JSON object per line on request."""

import json
import logging
import sys
from datetime import UTC, datetime

from typing_extensions import override

from flow_nexus_neural.settings import Settings


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: Settings) -> None:
    """Configure the root logger. Call it before creating the MCP server, which else configures it itself."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines()
        if settings.log_json
        else logging.Formatter("%(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # The accountant of privacy warns of each Renyi order that it cannot compute and leaves out, as it may.
    logging.getLogger("absl").setLevel(logging.ERROR)
