"""A reward model with the user's own network, over the bus: trained, used, verified, trained again."""

from __future__ import annotations

import pytest

from onibus.infra.settings import Settings, environment_of
from onibus.learner.run_files.history import read_history
from tests.command import OnibusProcess, run_onibus
from tests.consumers.replay.running import onibus
from tests.consumers.reward_models.annotation_logs import MODEL, TEXTS, annotation, publish_annotations
from tests.learner.runs import start_learner, stop, wait_ready
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODULE = "onibus.infra.examples.ngram_network"
NETWORK = f"{MODULE}:Network"


def test_it_is_trained_rewards_and_is_made_again_bit_for_bit(settings: Settings) -> None:
    folder = settings.runs_dir / "own"
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    trainer = OnibusProcess(
        "trainer",
        ("train-reward", "--spec", "keys-and-doors", "--network", NETWORK),
        settings.runs_dir / "trainer.log",
    )
    trainer.start(environment_of(settings))
    learner = start_learner(settings, "own", "--reward", "classification", "--import", MODULE)
    stranger = start_learner(settings, "stranger", "--reward", "classification")
    try:
        wait_ready(learner)
        wait_until(lambda: newest(settings, "own").get("model_version", 0) > 0, 240, "a version")
        wait_until(lambda: newest(settings, "own").get("intrinsic_return", 0) > 0, 240, "captions it rewards")
        refused = f"its network is {NETWORK}"
        wait_until(lambda: refused in stranger.log_path.read_text(), 240, "the version to be refused")
    finally:
        stop(learner, seconds=60)
        stop(stranger, seconds=60)
        trainer.ask_to_stop()
        trainer.wait_stopped()
    assert f"add --import {MODULE}" in stranger.log_path.read_text()
    assert newest(settings, "stranger")["model_version"] == 0

    def replay(*arguments: str) -> str:
        return onibus(settings, "replay", *arguments)

    without = run_onibus(  # in a process of its own: another test may have imported the module into this one
        "replay", "verify", "--no-labels", folder=settings.runs_dir, environment=environment_of(settings)
    )
    assert f"add --import {MODULE}" in without.stdout
    verified = replay("verify", "--no-labels", "--import", MODULE)
    assert "versions identical" in verified
    assert "differs" not in verified
    count = verified.split(" of ")[1].split(" ")[0]
    assert f"{count} of {count} versions identical" in verified
    replay("train", "own.safetensors", "--spec", "keys-and-doors", "--network", NETWORK)
    evaluated = replay("evaluate", "own.safetensors", "--import", MODULE)
    assert "accuracy" in evaluated
    assert MODEL in verified
    assert folder.exists()


def newest(settings: Settings, run: str) -> dict[str, float]:
    folder = settings.runs_dir / run
    rows = read_history(folder) if folder.exists() else []
    return rows[-1] if rows else {}
