"""Both directions: every promise leads to tests that exist, and everything in the code has a promise."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from flow_nexus_neural import errors
from flow_nexus_neural.engine import requests
from flow_nexus_neural.networks.layers import VOCABULARY
from flow_nexus_neural.server.argument_names import snake_case
from tests.manifest.promise import Promise

SOURCES = ("seed", "contract")
_ID = re.compile(rf"({'|'.join(SOURCES)})(\.[a-z0-9_-]+){{2,3}}")


def faults_of_promises(promises: Iterable[Promise]) -> list[str]:
    """What is wrong with promises by themselves."""
    promises = list(promises)
    found = [
        f"{id_} is there {n} times" for id_, n in Counter(p.id for p in promises).items() if n > 1
    ]
    for promise in promises:
        if not _ID.fullmatch(promise.id):
            found.append(f"{promise.id} is no id of the documented form")
        elif not promise.source.startswith(f"{promise.id.partition('.')[0]}: "):
            found.append(f"{promise.id} does not name a part of its source: {promise.source!r}")
        if not promise.text.endswith(".") or promise.text.count(". "):
            found.append(f"{promise.id} is not one sentence")
        if promise.status == "held" and not promise.tests:
            found.append(f"{promise.id} is held by no test")
        if (promise.status == "not_built") != bool(promise.instead):
            found.append(f"{promise.id}: exactly what is not built needs words that say so")
    return found


def node_ids_below(folder: Path, root: Path) -> set[str]:
    """Node ids of every test function below a folder, without parameters; nothing is imported."""
    return {
        f"{path.relative_to(root).as_posix()}::{name}"
        for path in sorted(folder.rglob("test_*.py"))
        for name in _test_names(ast.parse(path.read_text(encoding="utf-8")).body)
    }


def _test_names(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test"
        ):
            yield within + node.name
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _test_names(node.body, f"{within}{node.name}::")


def missing_tests(promises: Iterable[Promise], existing: set[str]) -> list[str]:
    """Promises that name a test that is not there, and where a test of that name is."""
    elsewhere: dict[str, list[str]] = {}
    for test in existing:
        elsewhere.setdefault(test.partition("::")[2], []).append(test)
    found = []
    for promise in promises:
        for test in promise.tests:
            if test not in existing:
                moved = elsewhere.get(test.partition("::")[2], ["nowhere"])
                found.append(
                    f"{promise.id} names {test}; a test of that name is: {', '.join(moved)}"
                )
    return found


def words_of_the_code() -> dict[str, set[str]]:
    """Every group of words that a client meets, read from the code itself."""
    groups = {
        snake_case(name): set(get_args(value))
        for name, value in vars(requests).items()
        if name != "Literal" and get_origin(value) is get_origin(requests.Topology)
    }
    return {
        **groups,
        "tool": set(request_models()),
        "error": set(_codes(errors.NeuralError)),
        "layer": set(VOCABULARY),
    }


def request_models() -> dict[str, type[BaseModel]]:
    """The request of each tool by its short name: `init`, `deploy`, ..."""
    return {
        name.removesuffix("Request").lower(): model
        for name, model in vars(requests).items()
        if isinstance(model, type)
        and issubclass(model, requests.EngineRequest)
        and model is not requests.EngineRequest
    }


def _codes(kind: type[errors.NeuralError]) -> Iterator[str]:
    below = kind.__subclasses__()
    if not below:
        yield kind("").code
    for one in below:
        yield from _codes(one)


def arguments_of_the_code() -> dict[str, set[str]]:
    """The arguments of each tool, by its short name."""
    return {name: set(model.model_fields) for name, model in request_models().items()}


def published(tools: Iterable[Mapping[str, Any]], part: str) -> dict[str, set[str]]:
    """Argument or reply names of each tool of a published list, by its short name."""
    found = {}
    for tool in tools:
        (short,) = [name for name in request_models() if name in tool["name"]]
        found[short] = {snake_case(name) for name in tool.get(part, {}).get("properties", {})}
    return found


def uncovered(
    promises: Iterable[Promise],
    groups: Mapping[str, Iterable[str]],
) -> list[str]:
    """Words without a promise: `<group>.<word>` after the source is missing among the ids."""
    kept = {promise.id.partition(".")[2] for promise in promises}
    return sorted(
        f"{group}.{word} has no promise"
        for group, words in groups.items()
        for word in words
        if f"{group}.{word}" not in kept
    )


def stale(
    promises: Iterable[Promise],
    groups: Mapping[str, Iterable[str]],
    arguments: Mapping[str, Iterable[str]],
    replies: Mapping[str, Iterable[str]],
) -> list[str]:
    """Promises about a word, an argument or a field of a reply that the code does not have."""
    known = {
        f"{group}.{word}" for group, words in {**groups, **arguments}.items() for word in words
    }
    known |= {f"{tool}.reply.{field}" for tool, fields in replies.items() for field in fields}
    found = []
    for promise in promises:
        head, *rest = promise.id.split(".")[1:]
        is_rule = head in arguments and rest[0] == "rule" and len(rest) == 2
        if head in {**groups, **arguments} and not is_rule and ".".join((head, *rest)) not in known:
            found.append(f"{promise.id} is about something that the code does not have")
    return found


def unsaid(promises: Iterable[Promise], texts: Iterable[str]) -> list[str]:
    """Promises that are not built, and whose words of admission stand nowhere."""
    said = " ".join(" ".join(texts).split())
    return [
        f"{promise.id}: nothing says {promise.instead!r}"
        for promise in promises
        if promise.instead and " ".join(promise.instead.split()) not in said
    ]


def texts_of_the_product(root: Path) -> Iterator[str]:
    """The README, the documents, and every text in the code."""
    for path in (root / "README.md", root / "SECURITY.md", *sorted((root / "docs").glob("*.md"))):
        yield path.read_text(encoding="utf-8")
    for path in sorted((root / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
