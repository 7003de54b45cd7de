"""``--llm vllm`` where something is missing: one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.vllm.environment import VARIABLE, vllm_python
from onibus.infra.vllm.server import VllmServer
from tests.command import run_onibus, the_one_line

pytestmark = pytest.mark.integration


def test_without_vllm_in_this_environment(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    said = run_onibus("annotate", "--llm", "vllm", "--model", tmp_path, folder=tmp_path)
    assert "make vllm" in the_one_line(said)


@pytest.mark.parametrize("given", ["/nowhere/at/all", "./nothing", "runs/models/nothing"])
def test_without_the_model_s_folder(given: str, tmp_path: Path) -> None:
    said = run_onibus("annotate", "--llm", "vllm", "--model", given, folder=tmp_path)
    assert "there is no model in" in the_one_line(said)
    assert "--model" in said.stderr


def test_without_a_model(tmp_path: Path) -> None:
    said = run_onibus("annotate", "--llm", "vllm", folder=tmp_path)
    assert "--llm vllm needs --model" in the_one_line(said)


def test_without_an_environment_that_has_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(OnibusError, match="make vllm"):
        vllm_python()


def test_a_server_s_model_is_named_after_its_folder_and_told_apart_by_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    server = VllmServer.of(str(folder), 7)
    flags = " ".join(server.judge_flags())
    assert flags.startswith(
        "--llm openai --base-url http://127.0.0.1:7/v1 --model my-model --model-revision "
    )
    (folder / "model.safetensors").write_bytes(b"others")
    assert VllmServer.of(str(folder), 7).revision != server.revision
    assert VllmServer.of("some/hub-model", 7).judge_flags()[-2:] == ["--model", "some/hub-model"]
