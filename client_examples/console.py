"""What the examples print with: headings, evidence, a progress line, numbers from the command line."""

import argparse
import sys
from typing import Any


def heading(text: str) -> None:
    """Begin a step."""
    print(f"\n== {text}", flush=True)


def evidence(label: str, value: object) -> None:
    """Print one fact of a step."""
    print(f"   {label:<28} {value}", flush=True)


def number(value: float | None, digits: int = 4) -> str:
    """Format a measurement; what was not measured stays visible as such."""
    return "not measured" if value is None else f"{value:.{digits}f}"


def digest(value: str | None) -> str:
    """Shorten a sha256 for the eye."""
    return "none" if value is None else value[:16]


class ProgressLine:
    """A bar that is redrawn on a terminal, and one plain line per step everywhere else."""

    def __init__(self, width: int = 24) -> None:
        self._width = width
        self._redraws = sys.stdout.isatty()
        self._last: int | None = None

    def update(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total`; the same `done` twice is shown once on plain output."""
        if self._redraws:
            filled = self._width * done // max(total, 1)
            bar = "#" * filled + "." * (self._width - filled)
            print(f"\r   [{bar}] {done}/{total} {text}\x1b[K", end="", flush=True)
        elif done != self._last:
            print(f"   round {done}/{total} {text}", flush=True)
        self._last = done

    def close(self) -> None:
        """Leave the bar standing."""
        if self._redraws and self._last is not None:
            print(flush=True)


def flags(description: str | None, **defaults: int) -> Any:
    """Read whole numbers from the command line, one `--name` per default."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in defaults.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, help=f"a whole number (default {default})"
        )
    return parser.parse_args()
