"""A vLLM server on this machine: how it is started, and whether it is ready."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from onibus.infra.process.components import Component
from onibus.infra.vllm.environment import vllm_python
from onibus.infra.vllm.model_folder import is_folder, model_folder, revision_of

READY_SECONDS = 600.0
"""How long a server may take to load its model; SmolLM2 takes half a minute."""
_ANSWER_SECONDS = 2.0
_CPU_FLAGS = ("--dtype", "bfloat16", "--enforce-eager", "--block-size", "32")
"""float16 is seven times slower on a CPU; compiling takes longer than it gains; and with vLLM's usual blocks
of 128 tokens short prompts would share nothing of their beginnings."""
_VARIABLES: dict[str, str | None] = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "OMP_NUM_THREADS": None,  # ours is 1, for rollout workers
}
_ON_FEW_CORES: dict[str, str | None] = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""The CPU build's engine computes in its own process instead of one more, which vLLM binds to all cores but
one. On two cores that start is 18 s shorter, takes 0.8 GB less, and answers come a quarter sooner."""
_FEW_CORES = 2


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A model behind OpenAI's protocol.

    Args:
        model: a folder in Hugging Face's layout, or a model's name on the hub.
        port: where it listens, on this machine alone.
        name: what requests call the model; a folder's own name, or the hub's.
        revision: what tells its weights from others of that name; empty for the hub's newest.
    """

    model: str
    port: int
    name: str
    revision: str

    @classmethod
    def of(cls, model: str, port: int) -> VllmServer:
        """A server for ``model``.

        Raises:
            OnibusError: it names a folder without a model.
        """
        if not is_folder(model):
            return cls(model, port, model, "")
        folder = model_folder(model).resolve()
        return cls(str(folder), port, folder.name, revision_of(folder))

    @property
    def base_url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def component(self, log_path: Path) -> Component:
        """The server as a process to be started; its engine is in the same session and ends with it.

        Raises:
            OnibusError: there is no environment with vLLM.
        """
        python = vllm_python()
        arguments = [
            *("serve", self.model, "--served-model-name", self.name),
            *("--host", "127.0.0.1", "--port", str(self.port), "--max-model-len", "auto"),
            *("--disable-uvicorn-access-log", "--enable-prefix-caching"),
            *(_CPU_FLAGS if _is_cpu_build(python) else ()),
        ]
        variables = _VARIABLES | ({"HF_HUB_OFFLINE": "1"} if is_folder(self.model) else {})
        if _is_cpu_build(python) and len(os.sched_getaffinity(0)) <= _FEW_CORES:
            variables |= _ON_FEW_CORES
        variables = {
            name: os.environ.get(name, value) if value else None for name, value in variables.items()
        }
        return Component(
            "vllm server",
            arguments,
            log_path,
            program=(str(python), "-m", "vllm.entrypoints.cli.main"),
            variables=variables,
            is_up=self.is_ready,
            serves_others=True,
        )

    def judge_flags(self) -> list[str]:
        """Flags of ``onibus annotate`` that have this server judge."""
        flags = ["--llm", "openai", "--base-url", self.base_url, "--model", self.name]
        return flags + (["--model-revision", self.revision] if self.revision else [])

    def is_ready(self) -> bool:
        """Whether it answers, engine included."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=_ANSWER_SECONDS):
                return True
        except (urllib.error.URLError, OSError):
            return False


def _is_cpu_build(python: Path) -> bool:
    return any(python.parents[1].glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))
