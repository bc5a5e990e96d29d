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
    if value is None or how == "word":
        return value or "not measured"
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


LOOKS = [f"{size}-{theme}" for size in (320, 1200) for theme in ("light", "dark")]


@pytest.mark.parametrize(
    "look", [*LOOKS, "star-320-light", "star-1200-dark", "mesh-320-dark", "mesh-1200-light"]
)
def test_the_view_fits_its_width_and_follows_the_theme_and_every_part_has_a_name(
    seen: dict[str, Any], look: str
):
    view = seen["views"][look]
    assert view["overflow"] == 0
    assert view["scheme"] == look.rpartition("-")[2]
    assert view["unnamed"] == 0


@pytest.mark.parametrize(
    ("look", "prefix", "least"),
    [("1200-dark", "", 60), ("star-1200-dark", "star-", 60), ("mesh-1200-light", "mesh-", 40)],
)
def test_every_number_is_that_of_the_status(
    seen: dict[str, Any], look: str, prefix: str, least: int
):
    """Memory and time differ between two looks: either of the two that were drawn will do."""
    numbers = seen["views"][look]["numbers"]
    assert len(numbers) > least
    wrong = [
        (path, text)
        for path, how, text in numbers
        if how != "seconds"
        and text not in {worded(at(seen[prefix + one], path), how) for one in ("status", "first")}
    ]
    assert wrong == []


def test_a_regression_has_errors_and_no_matrix_or_confidence(seen: dict[str, Any]):
    for look in ("star-320-light", "star-1200-dark"):
        text = seen["views"][look]["text"]
        assert "Mean absolute error" in text
        assert "A regression has no confidence, and its intervals are not measured." in text
        assert "How far off it is" in text
        assert "Rows: the truth" not in text
    assert seen["views"]["star-1200-dark"]["links"] == len(seen["star-status"]["links"])


def test_a_mesh_of_which_nothing_was_measured_has_its_links_and_no_numbers(seen: dict[str, Any]):
    view = seen["views"]["mesh-1200-light"]
    assert view["links"] == len(seen["mesh-status"]["links"]) >= 15
    for said in (
        "No round has been committed yet.",
        "Calibration: not measured.",
        "Confusion matrix: not measured.",
        "No prediction in the last five minutes.",
    ):
        assert said in view["text"]


def test_a_theme_that_changes_while_the_view_is_open_changes_it_at_once(seen: dict[str, Any]):
    names = ("star-320-light", "star-changed", "star-back")
    light, dark, back = (seen["views"][name] for name in names)
    assert light["background"] == back["background"] != dark["background"]
    assert dark["overflow"] == back["overflow"] == 0


def test_people_see_the_server_itself_and_every_change_of_it(seen: dict[str, Any]):
    before, after = seen["views"]["live"], seen["views"]["relinked"]
    assert (before["links"], before["recorded"]) == (15, 0)
    assert "15 of 15 links work" in before["text"]
    assert "mesh links" in before["text"]
    assert "6 of 6 links work" in after["text"]
    assert "ring links" in after["text"]


def test_people_see_what_is_stored_while_the_server_has_it(seen: dict[str, Any]):
    view = seen["views"]["stored"]
    assert view["recorded"] == view["links"] == 6
    assert "6 links as recorded last" in view["text"]
    assert "only the server knows" in view["text"]
    for unknown in (
        "How long predictions take is not stored",
        "What holds now depends on the nodes that run: only the server knows it.",
    ):
        assert unknown in view["text"]
    told = {path: text for path, _, text in view["numbers"]}
    for path in ("active_nodes", "latency.p50", "nodes.0.connections", "nodes.0.rounds_done"):
        assert told[path] == "not measured"
    assert view["overflow"] == view["unnamed"] == 0
    assert len(seen["choices"]) == 3


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
