"""The page as a document: whole, the same every time, and nothing in it that a host's policy refuses."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from flow_nexus_neural.server.dashboard import page
from flow_nexus_neural.server.dashboard.page import (
    BRIDGES,
    SCRIPTS,
    content_policy,
    page_html,
    script,
    style,
)

SVG_NAMESPACE = "http://www.w3.org/2000/svg"
REFUSED = (
    "eval(",
    "new Function",
    "Worker(",
    "WebAssembly",
    "createObjectURL",
    "blob:",
    "@import",
    "@font-face",
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "localStorage",
    "setTimeout('",
)
"""What the policy of a host refuses, or what would make markup of data."""


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("bridge", BRIDGES)
def test_the_page_loads_nothing_and_runs_nothing_that_a_host_refuses(bridge):
    text = page_html(bridge)
    assert not re.findall(
        r"https?://|wss?://|//[a-z0-9.-]+\.[a-z]{2,}/", text.replace(SVG_NAMESPACE, "")
    )
    assert [word for word in REFUSED if word in text] == []
    elements = Elements()
    elements.feed(text)
    names = [name for _, attributes in elements.found for name in attributes]
    assert not [name for name in names if name in ("src", "href", "srcset", "style")]
    assert not [name for name in names if name.startswith("on")]
    assert [tag for tag, _ in elements.found].count("script") == 1


@pytest.mark.parametrize("bridge", BRIDGES)
def test_the_page_is_one_whole_document_with_every_source_in_it(bridge):
    text = page_html(bridge)
    assert text.startswith("<!doctype html>")
    assert text.count("</script>") == 1
    assert text.count("</style>") == 1
    assert "{script}" not in text
    assert "{style}" not in text
    folder = files(page.__package__) / "page"
    sources = {entry.name for entry in folder.iterdir() if entry.name.endswith(".js")}
    assert sources == {*SCRIPTS, *BRIDGES.values()}
    for name in (*SCRIPTS, BRIDGES[bridge]):
        assert (folder / name).read_text() in text


def test_the_policy_allows_this_script_and_this_style_and_nothing_else():
    policy = dict(part.split(" ", 1) for part in content_policy("http").split("; "))
    assert policy["default-src"] == "'none'"
    for directive, text in (("script-src", script("http")), ("style-src", style())):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
        assert f">{text}</" in page_html("http")  # a browser hashes what is between the tags
    assert "unsafe" not in content_policy("http")


def test_no_number_is_drawn_that_is_not_in_the_status():
    """The only figures that the page has of its own are the limit, sizes and units."""
    assert "Math.random" not in script("host")
    assert 'NOT_MEASURED = "not measured"' in script("host")
