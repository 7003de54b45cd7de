"""``onibus demo --llm vllm``: a real model behind a real server judges what is played."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from onibus.infra.vllm.judge_model import default_folder, is_made
from tests.ports import free_port
from tests.test_demo import RunningDemo, port_is_free
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_demo_has_a_server_of_its_own_that_ends_with_it(judge_model: Path, tmp_path: Path) -> None:
    shutil.copytree(judge_model, default_folder(tmp_path))
    assert is_made(default_folder(tmp_path))
    port = free_port()
    demo = RunningDemo(tmp_path, port, "with-vllm", "--llm", "vllm", "--annotators", "1")
    wait_until(demo.watched, 300, "the first line of figures")
    wait_until(lambda: "labels 0" not in demo.output.read_text().splitlines()[-1], 60, "labels")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0, demo.output.read_text()
    said = demo.output.read_text()
    assert "vLLM server: SmolLM2-135M-Instruct" in said
    assert "Traceback" not in said
    wait_until(lambda: not demo.left_over(), 10, "no process left")
    assert port_is_free(port)
