#!/bin/sh
# Makes .venv with every pinned dependency and onibus itself, or says in one line why it cannot.
# Called by make from the repository root; $1: the interpreter to use, if not the newest supported one found.
set -eu
. infra/setup/environments.sh

requirements=infra/requirements
lock="$requirements/dev.txt"

make_environment .venv "${1:-}"

count=$(grep -c '==' "$lock")
echo "[3/4] about $count packages, 5 GB with torch's libraries: seconds from a cache, else minutes"
# Compiled once here: a learner starts a dozen processes, each of which would compile for seconds.
# Without looking at dependencies: the lock is complete, and Sample Factory's are overridden, see overrides.txt.
.venv/bin/uv pip install --compile-bytecode --python .venv/bin/python --require-hashes --no-deps --requirements "$lock" \
    --build-constraints "$requirements/build.txt"

echo "[4/4] onibus itself, from this checkout"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
touch .venv/set-up
echo "set up: .venv/bin/onibus"
