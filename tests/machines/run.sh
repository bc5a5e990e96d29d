#!/bin/sh
# Everything that needs Ray: the promises of a runtime over it, and two machines in two network namespaces.
# Usage: run.sh PYTHON, where that interpreter has the extra `ray`.
set -e
python=$1
inside() { "$@"; }
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && command -v nsenter >/dev/null && unshare -n true 2>/dev/null; then
    # Ray listens on every address that it finds: here it finds loopback only.
    inside() { unshare -n sh -c 'ip link set lo up && exec "$@"' sh "$@"; }
else
    echo "SKIPPED: everything with two machines. It needs root and the commands unshare, ip and nsenter." >&2
fi
inside "$python" -m pytest -q -rs tests/conformance -k ray
inside "$python" -m pytest -q -rs tests/machines
