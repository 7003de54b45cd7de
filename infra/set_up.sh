#!/bin/sh
# Makes .venv with every pinned dependency and onibus itself, or says in one line why it cannot.
# Called by make from the repository root; $1: the interpreter to use, if not the first 3.11 found.
set -eu
. infra/package_sources.sh

requirements=infra/requirements
lock="$requirements/dev.txt"

is_3_11() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in "${1:-python3.11}" python3.11 python3 python; do
        if is_3_11 "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 is missing (NetHack's package has no build for newer ones); install it (Debian and" \
        "Ubuntu: python3.11 and python3.11-venv; macOS: brew install python@3.11) or name it:" \
        "make PYTHON=/path/to/python3.11" >&2
    exit 2
}

python=$(find_python "${1:-}")
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "$python has no venv module; install it (Debian and Ubuntu: python3.11-venv)" >&2
    exit 2
}

if ! is_3_11 .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "[1/4] making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
else
    echo "[1/4] .venv is there"
fi

echo "[2/4] uv, the installer"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$requirements/uv.txt"

use_pip_settings_of .venv/bin/python

count=$(grep -c '==' "$lock")
echo "[3/4] about $count packages, 5 GB with torch's libraries: seconds from a cache, else minutes"
# Compiled once here: a learner starts a dozen processes, each of which would compile for seconds.
.venv/bin/uv pip install --compile-bytecode --python .venv/bin/python --require-hashes --requirements "$lock" \
    --build-constraints "$requirements/build.txt"

echo "[4/4] onibus itself"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
touch .venv/set-up
echo "set up: .venv/bin/onibus"
