"""Whether two machines have the same program, so that equal inputs give equal bytes on both."""

from hashlib import sha256
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


def code_digest(package: Path = _PACKAGE) -> str:
    """A digest of every module of a package, names and content."""
    digest = sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
