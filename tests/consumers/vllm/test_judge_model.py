"""The pre-trained model that is fetched: a folder that is whole, kept, and judges by probabilities."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from onibus.infra.observability.scraping import scrape
from onibus.infra.vllm.judge_model import NAME, is_made, make_judge_model
from onibus.learner.benchmarks.vllm_client import cached_share
from tests.command import run_onibus
from tests.consumers.vllm.serving import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_it_is_a_folder_of_its_own_and_made_once(judge_model: Path) -> None:
    assert is_made(judge_model)
    config = json.loads((judge_model / "config.json").read_text())
    assert (config["model_type"], config["dtype"]) == ("llama", "bfloat16")
    assert (judge_model / "tokenizer.json").exists()
    written = (judge_model / "model.safetensors").stat().st_mtime_ns
    make_judge_model(judge_model, threading.Event())
    assert (judge_model / "model.safetensors").stat().st_mtime_ns == written
    assert not list(judge_model.parent.glob("onibus-judge-model-*"))


def test_a_server_with_it_tells_keys_from_walls(server: RunningServer, tmp_path: Path) -> None:
    flags = ["--llm", "openai", "--base-url", server.server.base_url, "--model", NAME]
    tried = ["spec", "try", "keys-and-doors-probability", *flags, "--price-in", "1", "--json"]

    def judged(caption: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run_onibus(*tried, "--caption", caption, folder=tmp_path).stdout)
        return found

    key = judged("k - a skeleton key.")
    before = scrape([server.server.port])
    wall = judged("It's solid stone.")
    assert cached_share(before, scrape([server.server.port])) > 0.5, "the examples are the same"
    assert key["verdict"] == "helpful"
    assert wall["verdict"] == "unhelpful"
    assert key["probability"] > 0.6 > 0.4 > wall["probability"]
    assert (key["tokens_out"], key["usd"]) == (1, pytest.approx(key["tokens_in"] / 1e6))
