"""`neural_cluster_view` in a real Chromium, behind the official AppBridge and the specification's policy.

`make view` installs what this needs and sets VIEW_DIR; without it nothing here runs.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
VIEW_DIR = os.environ.get("VIEW_DIR")
LIMIT_S = 400

pytestmark = pytest.mark.skipif(VIEW_DIR is None, reason="make view")

UNITS = ("B", "kB", "MB", "GB", "TB")


def worded(value: Any, how: str) -> str:
    """A number as the page must show it, written anew and not taken from its source."""
    if value is None:
        return "not measured"
    match how:
        case "count":
            return f"{value:,}"
        case "share":
            return f"{100 * value:.1f} %"
        case "ms":
            digits = ".2g" if value < 0.1 else ".2f" if value < 10 else ".1f"
            return f"{value:{digits}} ms"
        case "bytes":
            unit = 0
            while value >= 1000 and unit < len(UNITS) - 1:
                value, unit = value / 1000, unit + 1
            return f"{value:.1f} {UNITS[unit]}" if unit else f"{value} B"
        case _:
            return f"{value:.4g}"


def at(status: Any, path: str) -> Any:
    for name in path.split("."):
        if status is None:
            return None
        status = status[int(name)] if isinstance(status, list) else status.get(name)
    return status


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    assert VIEW_DIR is not None
    out = Path(VIEW_DIR) / "pictures"
    out.mkdir(exist_ok=True)
    node = shutil.which("node")
    assert node is not None
    command = [node, str(HERE / "view.mjs"), VIEW_DIR, sys.executable, str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_nothing_is_refused_by_the_policy_and_no_script_fails(seen: dict[str, Any]):
    assert seen["troubles"] == []


@pytest.mark.parametrize("look", ["320-light", "320-dark", "1200-light", "1200-dark"])
def test_the_view_fits_its_width_and_follows_the_theme_and_every_part_has_a_name(
    seen: dict[str, Any], look: str
):
    view = seen["views"][look]
    assert view["overflow"] == 0
    assert view["scheme"] == look.partition("-")[2]
    assert view["unnamed"] == 0


def test_every_number_is_that_of_the_status(seen: dict[str, Any]):
    """Memory and time differ between two looks: either of the two that were drawn will do."""
    numbers = seen["views"]["1200-dark"]["numbers"]
    assert len(numbers) > 60
    wrong = [
        (path, text)
        for path, how, text in numbers
        if how != "seconds"
        and text not in {worded(at(seen[look], path), how) for look in ("status", "first")}
    ]
    assert wrong == []


def test_a_hostile_name_is_text(seen: dict[str, Any]):
    view = seen["views"]["1200-light"]
    assert "<img src=x onerror=alert(1)>" in view["heading"]
    assert view["images"] == 0


def test_a_dead_node_is_marked_and_a_round_is_read_by_keyboard(seen: dict[str, Any]):
    assert seen["views"]["320-light"]["dead"] == 1
    assert seen["views"]["320-light"]["links"] == len(seen["status"]["links"]) == 6
    assert seen["reading"].startswith("Round 8: train ")


def test_the_view_refreshes_itself_by_the_status_tool_alone(seen: dict[str, Any]):
    assert set(seen["calls"]) == {"neural_cluster_status"}


def test_a_screen_reader_finds_the_parts(seen: dict[str, Any]):
    for name in ("Learning curves", "Topology", "Live predictions", "Nodes", "Guarantees"):
        assert f'region "{name}"' in seen["tree"]
    assert 'columnheader "Node"' in seen["tree"]
