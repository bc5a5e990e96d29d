"""Puts the page together: one HTML document without anything from elsewhere.

The sources under `page/` are plain scripts that share one scope. They are joined in the order of `SCRIPTS`,
with one bridge last: `host` talks to the host of an MCP App, `http` to this program's own web server.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from flow_nexus_neural import __version__

Bridge = Literal["host", "http"]

SCRIPTS: Final = (
    "dom.js",
    "format.js",
    "chart.js",
    "overview.js",
    "curves.js",
    "topology.js",
    "predictions.js",
    "quality.js",
    "nodes.js",
    "notes.js",
    "view.js",
)
"""What every page has, each after what it uses."""
BRIDGES: Final[dict[Bridge, str]] = {"host": "host_bridge.js", "http": "http_bridge.js"}


@cache
def script(bridge: Bridge) -> str:
    """All scripts of a page as one, in a scope of its own."""
    parts = [_source(name) for name in (*SCRIPTS, BRIDGES[bridge])]
    return "\n".join(
        ['(() => {\n"use strict";', f'const VERSION = "{__version__}";', *parts, "})();\n"]
    )


@cache
def style() -> str:
    """The style sheet."""
    return _source("style.css")


@cache
def page_html(bridge: Bridge) -> str:
    """The whole document."""
    document = _source("index.html")
    return document.replace("/*{style}*/", style()).replace("/*{script}*/", script(bridge))


@cache
def content_policy(bridge: Bridge) -> str:
    """A Content-Security-Policy under which this document works, and nothing that found its way into it."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script(bridge))}'",
            f"style-src '{_digest(style())}'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _source(name: str) -> str:
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The hash by which a policy names an inline script or style (CSP level 3, section 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
