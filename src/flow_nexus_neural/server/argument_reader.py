"""Converts the arguments of a tool call to a request, or raises an error that names the wrong argument."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from flow_nexus_neural.engine.requests import EngineRequest
from flow_nexus_neural.errors import InvalidArguments, NotAvailable
from flow_nexus_neural.server.argument_names import (
    ALIASES,
    INERT,
    NOT_AVAILABLE,
    PUBLISHED,
    REFUSED,
    REFUSED_BY_TOOL,
    camel_case,
    snake_case,
)
from flow_nexus_neural.server.argument_values import Expected, read_value
from flow_nexus_neural.server.errors import clip

MAX_SHOWN_CHARS = 80

RequestT = TypeVar("RequestT", bound=EngineRequest)


@dataclass(frozen=True)
class ReadArguments(Generic[RequestT]):
    """A valid request for the engine, and warnings about its arguments."""

    request: RequestT
    warnings: list[str]


class ArgumentReader(Generic[RequestT]):
    """Reads the arguments of one tool.

    Args:
        tool: The tool's name, for errors.
        request: Class of the request.
    """

    def __init__(self, tool: str, request: type[RequestT]) -> None:
        self._tool = tool
        self._request = request
        self._expected = {name: Expected.of(field) for name, field in request.model_fields.items()}
        self._fields: dict[str, str] = {}
        for name in request.model_fields:
            self._fields |= dict.fromkeys((name, camel_case(name), PUBLISHED.get(name, name)), name)
        self._other_names: dict[str, str] = {}
        for alias, name in ALIASES[tool].items():
            self._other_names |= dict.fromkeys((alias, camel_case(alias)), name)
        self._other_names = {
            alias: name for alias, name in self._other_names.items() if alias not in self._fields
        }

    def read(self, arguments: Mapping[str, JsonValue]) -> ReadArguments[RequestT]:
        """Convert the arguments.

        Raises:
            InvalidArguments: If an argument is unknown, missing, badly typed, out of range or given twice.
            NotAvailable: If an argument asks for a feature that this version does not have.
        """
        values: dict[str, JsonValue] = {}
        given_as: dict[str, str] = {}
        warnings: list[str] = []
        for name, raw in arguments.items():
            field = self._fields.get(name) or self._other_names.get(name)
            if field is None:
                warnings.append(self._without_effect(name))
                continue
            value = self._value(name, field, raw)
            if field in given_as and values.get(field) != value:
                raise self._given_twice(given_as[field], name, arguments)
            given_as[field] = name
            values[field] = value
        values = {name: value for name, value in values.items() if self._is_given(name, value)}
        return ReadArguments(self._validated(values, given_as), warnings)

    def _is_given(self, field: str, value: JsonValue) -> bool:
        expected = self._expected[field]
        return value is not None or expected.nullable or expected.required

    def _without_effect(self, name: str) -> str:
        """The warning for an inert name; every other unknown name is an error."""
        known = snake_case(name)
        if known in INERT:
            return f"'{name}' has no effect: {INERT[known]}"
        if known in NOT_AVAILABLE:
            reason, advice = NOT_AVAILABLE[known]
            raise NotAvailable(f"{self._tool}: '{name}' is not available: {reason}", hint=advice)
        refusal = REFUSED_BY_TOOL.get(self._tool, {}).get(known) or REFUSED.get(known)
        if refusal is not None:
            reason, advice = refusal
            raise InvalidArguments(
                f"{self._tool}: '{name}' is not an argument: {reason}", hint=advice
            )
        raise self._unknown(name)

    def _unknown(self, name: str) -> InvalidArguments:
        shown = clip(name, MAX_SHOWN_CHARS)
        message = f"{self._tool}: '{shown}' is not an argument"
        spellings = [*self._fields, *self._other_names]
        near = difflib.get_close_matches(name[:MAX_SHOWN_CHARS], spellings, n=1, cutoff=0.6)
        if near:
            message += f"; did you mean '{near[0]}'?"
        return InvalidArguments(
            message, hint=f"{self._accepted()}. Call it again with the right name"
        )

    def _value(self, name: str, field: str, raw: JsonValue) -> JsonValue:
        if name in self._other_names:
            raw = _translated(snake_case(name), raw)
        try:
            value = read_value(raw, self._expected[field])
        except ValueError as failure:
            raise self._wrong(name, raw, str(failure)) from failure
        if value is None and self._expected[field].required:
            raise self._wrong(name, raw, f"expected {self._expected[field].words()}")
        return value

    def _validated(self, values: Mapping[str, JsonValue], given_as: Mapping[str, str]) -> RequestT:
        try:
            return self._request.model_validate(values)
        except ValidationError as failure:
            detail = failure.errors(include_url=False)[0]
        field = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "missing" and len(detail["loc"]) == 1:
            raise InvalidArguments(
                f"{self._tool}: '{field}' is missing; it takes {self._expected[field].words()}",
                hint=f"{self._accepted()}. Call it again with '{field}'",
            )
        place = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}"
            for part in detail["loc"][1:]
            if isinstance(part, int) or part in _names_in(values.get(field))
        )
        name = given_as.get(field, field) + place
        if not place and self._expected[field].bounds and detail["type"] in _OUT_OF_RANGE:
            raise self._wrong(name, detail["input"], f"expected {self._expected[field].words()}")
        raise self._wrong(name, detail["input"], sentence(detail))

    def _wrong(self, name: str, value: JsonValue, expectation: str) -> InvalidArguments:
        return InvalidArguments(
            f"{self._tool}: '{clip(name, MAX_SHOWN_CHARS)}' is {shown(value)}; {expectation}",
            hint=f"{self._accepted()}. Call it again with a valid value",
        )

    def _given_twice(
        self, first: str, second: str, arguments: Mapping[str, JsonValue]
    ) -> InvalidArguments:
        return InvalidArguments(
            f"{self._tool}: '{first}' is {shown(arguments[first])} and '{second}' is "
            f"{shown(arguments[second])}, but both name one argument",
            hint="Give only one of them and call it again",
        )

    def _accepted(self) -> str:
        names = [
            PUBLISHED.get(name, name) + ("" if expected.required else "?")
            for name, expected in self._expected.items()
        ]
        return "Accepted: " + ", ".join(names)


_SWITCHES: Mapping[str, Mapping[bool, JsonValue]] = {
    "verbose": {True: "full", False: None},
    "wait": {True: None, False: 0},
}
"""Aliases that are booleans, with the values that true and false mean for the argument."""


def _translated(alias: str, value: JsonValue) -> JsonValue:
    switch = _switch(value)
    return value if alias not in _SWITCHES or switch is None else _SWITCHES[alias][switch]


def _switch(value: JsonValue) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _names_in(value: JsonValue) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, dict) else ()


def shown(value: object) -> str:
    """A received value as JSON, truncated to 80 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return clip(text, MAX_SHOWN_CHARS)


_OUT_OF_RANGE = ("greater_than_equal", "less_than_equal")
_SENTENCES = {
    "greater_than_equal": "the least is {ge}",
    "greater_than": "it must be above {gt}",
    "less_than_equal": "the most is {le}",
    "less_than": "it must be below {lt}",
    "string_too_short": "it needs at least {min_length} character",
    "string_too_long": "it may have at most {max_length} characters",
    "too_long": "it may have at most {max_length} entries",
    "string_pattern_mismatch": "it must match {pattern}",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller whole number",
    "int_type": "expected a whole number",
}


def sentence(detail: ErrorDetails) -> str:
    """Describe what was expected of a value, from pydantic's error."""
    wording = _SENTENCES.get(detail["type"])
    if wording is not None:
        return wording.format_map(detail.get("ctx", {}))
    text = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"expected {text[:1].lower()}{text[1:]}"
