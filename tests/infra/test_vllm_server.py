"""How the demo's vLLM server is started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from onibus.infra.vllm import server
from onibus.infra.vllm.server import VllmServer

MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"


@pytest.mark.parametrize(
    ("cores", "cpu_build", "users", "set_to"),
    [(2, True, None, "0"), (2, True, "1", "1"), (3, True, None, None), (2, False, None, None)],
)
def test_on_few_cores_alone_the_cpu_builds_engine_computes_in_its_own_process(
    cores: int,
    cpu_build: bool,
    users: str | None,
    set_to: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "vllm_python", lambda: Path(sys.executable))
    monkeypatch.setattr(server, "_is_cpu_build", lambda python: cpu_build)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    if users is not None:
        monkeypatch.setenv(MULTIPROCESSING, users)
    component = VllmServer("a/model", 1, "a/model", "").component(tmp_path / "log")
    assert component.variables.get(MULTIPROCESSING) == set_to
