"""``--llm vllm``: the engine in the annotator's own process."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from onibus.infra.settings import Settings, environment_of
from onibus.infra.vllm.environment import vllm_python
from onibus.infra.vllm.server import VllmServer
from tests.command import REPOSITORY
from tests.consumers.annotating import publish, wait_for_labels
from tests.consumers.vllm.judging import (
    SPEC,
    TOO_LONG,
    WORDS,
    annotations,
    assert_only_the_long_one_was_given_up,
    fresh_captions,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def annotate(settings: Settings, model: object) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of an annotator in vLLM's environment."""
    command = [str(vllm_python()), "-m", "onibus", "annotate", "--llm", "vllm", "--model", str(model)]
    environment = (
        os.environ | environment_of(settings) | {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    )
    return [*command, "--spec", SPEC, "--name", "in-process", "--backlog", "all", "--yes"], environment


def test_it_labels_captions_in_one_process_and_stops_clean(settings: Settings, judge_model: Path) -> None:
    texts = [*fresh_captions(), TOO_LONG]
    publish(settings, texts)
    command, environment = annotate(settings, judge_model)
    log = settings.runs_dir / "annotator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, cwd=settings.runs_dir, stdout=out, stderr=out)
    try:
        wait_for_labels(settings, len(texts), timeout=120)
        assert not psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()  # it frees gigabytes, perhaps on a busy machine
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
    assert_only_the_long_one_was_given_up(settings)
    found = [a for a in annotations(settings) if a.texts != (TOO_LONG,)]
    assert {a.raw_answer for a in found} <= WORDS
    assert min(a.tokens_in for a in found) > 50
    same = VllmServer.of(str(judge_model), 1)  # through a server they would be the same labels
    assert {(a.model, a.model_revision) for a in found} == {(same.name, same.revision)}


def test_a_folder_whose_model_vllm_cannot_run_is_said_in_one_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchModel"], "model_type": "llama"}')
    command, environment = annotate(settings, tmp_path)
    said = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    line = next(x for x in said.stderr.splitlines() if x.startswith("onibus: "))
    assert said.returncode == 2
    assert "vLLM cannot run" in line
    assert "Traceback" not in said.stderr + said.stdout
