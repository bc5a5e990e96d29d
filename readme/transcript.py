"""Run the demo and put what it printed into the README.

python -m readme.transcript
"""

import subprocess
import sys
from pathlib import Path

from readme.markers import replace_between

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "client_examples" / "06_trading_system.py"


def main() -> None:
    """Run, check that it ended well, write."""
    run = subprocess.run(
        [sys.executable, str(DEMO)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        raise SystemExit(f"the demo failed:\n{run.stdout}{run.stderr}")
    text = f"```text\n$ make demo{run.stdout.rstrip()}\n```"
    replace_between(ROOT / "README.md", "transcript", text, check=False)


if __name__ == "__main__":
    main()
