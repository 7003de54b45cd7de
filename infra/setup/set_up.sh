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
# Without looking at dependencies: the lock is complete, and Sample Factory's are overridden, see overrides.txt.
.venv/bin/uv pip install --python .venv/bin/python --require-hashes --no-deps --requirements "$lock" \
    --build-constraints "$requirements/build.txt"

echo "[4/4] onibus itself, from this checkout; and what it imports is compiled"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
compile_imports .venv/bin/python onibus.learner.training onibus.learner.reporting.report onibus.infra.cli.demo \
    onibus.consumers.annotator.run onibus.consumers.reward_models.run
touch .venv/set-up
echo "set up: .venv/bin/onibus"
