"""Converts the arguments of a tool call to a request, or raises one error that names every wrong argument."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dc_field
from typing import Generic, TypeVar

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from flow_nexus_neural.engine.requests import EngineRequest
from flow_nexus_neural.errors import InvalidArguments, NeuralError, NotAvailable
from flow_nexus_neural.server.argument_names import (
    ALIASES,
    BLANK_IS_REFUSED,
    INERT,
    NOT_AVAILABLE,
    PUBLISHED,
    REFUSED,
    REFUSED_BY_TOOL,
    camel_case,
    snake_case,
)
from flow_nexus_neural.server.argument_values import Expected, is_blank, read_value
from flow_nexus_neural.server.errors import clip
from flow_nexus_neural.server.nearest_names import nearest_argument

MAX_SHOWN_CHARS = 80

MAX_PROBLEMS_CHARS = 480

RequestT = TypeVar("RequestT", bound=EngineRequest)


@dataclass(frozen=True)
class ReadArguments(Generic[RequestT]):
    """A valid request for the engine, and warnings about its arguments."""

    request: RequestT
    warnings: list[str]


@dataclass(frozen=True)
class _Wrong:
    """One argument that is wrong: what is wrong, what to do, whether the list of all arguments helps."""

    text: str
    advice: str
    listed: bool = False
    missing: bool = False
    """Whether the idea is known and not part of this version."""


@dataclass
class _Given:
    """What was understood of a call so far, by field, and what was not."""

    values: dict[str, JsonValue] = dc_field(default_factory=dict)
    names: dict[str, str] = dc_field(default_factory=dict)
    raw: dict[str, JsonValue] = dc_field(default_factory=dict)
    warnings: list[str] = dc_field(default_factory=list)
    wrong: list[_Wrong] = dc_field(default_factory=list)
    refused: set[str] = dc_field(default_factory=set)

    def refuse(self, field: str, wrong: _Wrong) -> None:
        self.refused.add(field)
        self.wrong.append(wrong)


def _together(tool: str, wrong: Sequence[_Wrong], accepted: str) -> NeuralError:
    """All that is wrong with a call as one error; what does not fit is counted."""
    message = wrong[0].text
    for told, another in enumerate(wrong[1:], start=1):
        longer = f"{message}{'' if message.endswith('?') else ';'} also {another.text}"
        if len(longer) > MAX_PROBLEMS_CHARS:
            message += f"; and {len(wrong) - told} more"
            break
        message = longer
    advice = list(dict.fromkeys(one.advice for one in wrong))
    if len(advice) > 1:
        advice = [*[one.advice for one in wrong if not one.listed][:2], "Call it again corrected"]
    if any(one.listed for one in wrong):
        advice.insert(len(advice) - 1, accepted)
    kind = NotAvailable if all(one.missing for one in wrong) else InvalidArguments
    return kind(f"{tool}: {message}", hint=". ".join(dict.fromkeys(advice)))


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
            InvalidArguments: If arguments are unknown, missing, badly typed, out of range or given twice; all
                of them are named.
            NotAvailable: If every wrong argument asks for a feature that this version does not have.
        """
        given = _Given()
        for name, raw in arguments.items():
            field = self._fields.get(name) or self._other_names.get(name)
            if field is None:
                self._note_unknown(name, given)
            else:
                self._note_value(name, field, raw, given)
        values = {
            name: value for name, value in given.values.items() if self._is_given(name, value)
        }
        try:
            request = self._request.model_validate(values)
        except ValidationError as failure:
            given.wrong += self._refused_values(failure, values, given)
        if given.wrong:
            raise _together(self._tool, given.wrong, self._accepted())
        return ReadArguments(request, given.warnings)

    def _is_given(self, field: str, value: JsonValue) -> bool:
        expected = self._expected[field]
        return value is not None or expected.nullable or expected.required

    def _note_unknown(self, name: str, given: "_Given") -> None:
        """An inert name is worth a warning; every other unknown name is wrong."""
        known = snake_case(name)
        if known in INERT:
            given.warnings.append(f"'{name}' has no effect: {INERT[known]}")
            return
        if known in NOT_AVAILABLE:
            reason, advice = NOT_AVAILABLE[known]
            given.wrong.append(_Wrong(f"'{name}' is not available: {reason}", advice, missing=True))
            return
        refusal = REFUSED_BY_TOOL.get(self._tool, {}).get(known) or REFUSED.get(known)
        if refusal is not None:
            reason, advice = refusal
            given.wrong.append(_Wrong(f"'{name}' is not an argument: {reason}", advice))
            return
        text = f"'{clip(name, MAX_SHOWN_CHARS)}' is not an argument"
        spellings = [*self._fields, *self._other_names]
        near = nearest_argument(known, self._expected, spellings)
        if near:
            text += f"; did you mean '{near}'?"
        given.wrong.append(_Wrong(text, "Call it again with the right name", listed=True))

    def _note_value(self, name: str, field: str, raw: JsonValue, given: "_Given") -> None:
        if name in self._other_names:
            raw = _translated(snake_case(name), raw)
        expected = self._expected[field]
        if is_blank(raw) and not expected.required:
            if field in BLANK_IS_REFUSED.get(self._tool, ()):
                given.refuse(field, self._wrong(name, raw, "expected an id, or nothing at all"))
            return
        try:
            value = read_value(raw, expected)
        except ValueError as failure:
            given.refuse(field, self._wrong(name, raw, str(failure)))
            return
        if value is None and expected.required:
            given.refuse(field, self._wrong(name, raw, f"expected {expected.words()}"))
        elif field in given.names and given.values.get(field) != value:
            first = given.names[field]
            text = f"'{first}' is {shown(given.raw[field])} and '{name}' is {shown(raw)},"
            advice = "Give only one of them and call it again"
            given.refuse(field, _Wrong(f"{text} but both name one argument", advice))
        else:
            given.names[field], given.values[field], given.raw[field] = name, value, raw

    def _refused_values(
        self, failure: ValidationError, values: Mapping[str, JsonValue], given: "_Given"
    ) -> list["_Wrong"]:
        """What the request's own model says is wrong, once for each field that was not refused before."""
        found: dict[str, _Wrong] = {}
        for detail in failure.errors(include_url=False):
            field = str(detail["loc"][0]) if detail["loc"] else ""
            if field not in given.refused and field not in found:
                found[field] = self._refused_value(field, detail, values, given.names)
        return list(found.values())

    def _refused_value(
        self,
        field: str,
        detail: ErrorDetails,
        values: Mapping[str, JsonValue],
        given_as: Mapping[str, str],
    ) -> "_Wrong":
        if detail["type"] == "missing" and len(detail["loc"]) == 1:
            return _Wrong(
                f"'{field}' is missing; it takes {self._expected[field].words()}",
                f"Call it again with '{field}'",
                listed=True,
            )
        place = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}"
            for part in detail["loc"][1:]
            if isinstance(part, int) or part in _names_in(values.get(field))
        )
        name = given_as.get(field, field) + place
        if not place and self._expected[field].bounds and detail["type"] in _OUT_OF_RANGE:
            return self._wrong(name, detail["input"], f"expected {self._expected[field].words()}")
        return self._wrong(name, detail["input"], sentence(detail))

    def _wrong(self, name: str, value: JsonValue, expectation: str) -> "_Wrong":
        return _Wrong(
            f"'{clip(name, MAX_SHOWN_CHARS)}' is {shown(value)}; {expectation}",
            "Call it again with a valid value",
            listed=True,
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
