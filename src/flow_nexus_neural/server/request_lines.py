"""Lines of a client that are no messages: mended where the meaning is plain, else answered and logged.

The SDK drops such lines without a word, so that a client waits for ever. A line that asks for something (it
has an id and is no response) is answered with a JSON-RPC error; each one is logged.
"""

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    RequestId,
    jsonrpc_message_adapter,
)

BYTE_ORDER_MARK = "\ufeff"
MAX_ID_CHARS = 200
MAX_ANSWERS = 100
"""Requests of one refused batch that are answered."""

log = logging.getLogger(__name__)

Answer = Callable[[JSONRPCError], Awaitable[None]]


async def messages_in(lines: AsyncIterator[str], answer: Answer) -> AsyncIterator[str]:
    """The lines that are messages.

    Args:
        lines: As they come from the client.
        answer: Sends an error for a line that is none.
    """
    first = True
    async for line in lines:
        mended = with_whole_characters(line.removeprefix(BYTE_ORDER_MARK) if first else line)
        first = False
        if not mended.strip():
            continue
        if _is_message(mended):
            yield mended
            continue
        for error in refusals(mended):
            await answer(error)


def _is_message(line: str) -> bool:
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return False
    # A request whose id is none of a permitted kind passes for a notification, which nobody answers.
    return not (
        isinstance(message, JSONRPCNotification)
        and '"id"' in line
        and "id" in json.loads(line, parse_int=_whole_number)
    )


def refusals(line: str) -> Iterator[JSONRPCError]:
    """What is answered to a line that is no message; logged, but without the content, which may be data."""
    try:
        content = json.loads(line, parse_int=_whole_number)
    except (ValueError, RecursionError):
        given = _ID_IN_FRONT.match(line)
        found = [json.loads(given[1])] if given else []
        code, reason = PARSE_ERROR, "the line is no JSON, or nests too deep"
    else:
        code, reason = INVALID_REQUEST, _reason(content)
        asked = content if isinstance(content, list) else [content]
        found = [one["id"] for one in asked if _asks(one)]
    ids = [id_ for id_ in map(_request_id, found) if id_ is not None]
    told = f"answered with {code}" if ids else "not answered, as it has no id"
    log.warning("a line of %d characters is no message: %s; %s", len(line), reason, told)
    for id_ in ids[:MAX_ANSWERS]:
        yield JSONRPCError(jsonrpc="2.0", id=id_, error=ErrorData(code=code, message=reason))


def _asks(content: Any) -> bool:
    """Whether somebody waits for an answer: to a response, however wrong, nobody does."""
    return (
        isinstance(content, dict) and "id" in content and not content.keys() & {"result", "error"}
    )


def _reason(content: Any) -> str:
    """What is wrong with JSON that is no message."""
    if isinstance(content, list):
        return "batches are not supported: send each request in a line of its own"
    if not isinstance(content, dict):
        return "a message is a JSON object"
    id_ = content.get("id", 0)
    faults = {
        'jsonrpc must be "2.0"': content.get("jsonrpc") != "2.0",
        "id must be a whole number or a text": isinstance(id_, bool)
        or not isinstance(id_, int | str),
        "method is missing, or is no text": not isinstance(content.get("method"), str),
        "params must be an object": not isinstance(content.get("params", {}), dict),
    }
    known = [fault for fault, found in faults.items() if found]
    return known[0] if known else "a value in it is too large or nests too deep"


def _request_id(value: Any) -> RequestId | None:
    """An id that an answer can carry."""
    if isinstance(value, str):
        return value if len(value) <= MAX_ID_CHARS else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 and abs(value) < 2**53 else None


def _whole_number(digits: str) -> float:
    """A number of any length: one that is no id need not be exact."""
    return int(digits) if len(digits) <= MAX_ID_CHARS else float("inf")


_ID_IN_FRONT = re.compile(
    r'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(-?[0-9]{1,15}|"[^"\\]{0,200}")\s*[,}]'
)
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair, which is one character
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."
)


def with_whole_characters(line: str) -> str:
    r"""Replace halves of surrogate pairs (`\ud83d` alone), which texts that were cut contain."""
    if "\\ud" not in line and "\\uD" not in line:
        return line
    return _ESCAPES.sub(lambda found: "\\ufffd" if found["half"] else found[0], line)
