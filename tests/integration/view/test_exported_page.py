"""The web page of an export as WebAssembly in a real Chromium: it answers as the product does.

`make view` sets VIEW_DIR; without it, or where there is no Chromium, nothing here runs.
"""

import html
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.limits import HANG_S
from tests.integration.product import product

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROWS = [[0.3 * k - 2, 1.0 - 0.2 * k] for k in range(40)]
"""More than a module takes in one run."""

pytestmark = pytest.mark.skipif(
    os.environ.get("VIEW_DIR") is None or CHROMIUM is None, reason="make view"
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shown(address: str, profile: Path) -> Any:
    """What the page shows as answers once its scripts have run."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        "--virtual-time-budget=20000", "--dump-dom", address,
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=True)
    found = re.search(r'<pre id="answers">(.*?)</pre>', ran.stdout, re.DOTALL)
    assert found is not None, ran.stdout[-2000:]
    return json.loads(html.unescape(found[1]))


def printed(folder: Path) -> Any:
    """What the script beside the page prints."""
    node = shutil.which("node")
    assert node is not None
    command = [node, str(folder / "predict.mjs")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=True)
    return json.loads(ran.stdout)


async def test_the_exported_page_answers_in_a_browser_as_the_product_does(tmp_path: Path):
    folder = tmp_path / "data" / "model"
    async with product(tmp_path) as it:
        cluster_id = await it.trained(2, epochs=2)
        answered = await it.result(
            "predict_distributed", cluster_id=cluster_id, input_data=ROWS, detail="full"
        )
        made = await it.result(
            "model_export", cluster_id=cluster_id, format="wasm", path=str(folder)
        )
    folder = Path(made["path"])
    (folder / "examples.json").write_text(json.dumps({"rows": ROWS, "symbols": []}))
    with served(folder) as address:
        found = shown(address, tmp_path / "profile")
    assert [row[1] for row in found] == pytest.approx(answered["predictions"], abs=1e-5)
    # Chromium and Node compute the same bits.
    assert printed(folder) == found
