"""``onibus replay train``: from the log, from a file without any broker, up to any point, onto the bus."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from onibus.consumers.reward_models.character_cnn import NETWORKS, to_bytes, to_rows
from onibus.consumers.reward_models.model_file import read_model_file
from onibus.consumers.reward_models.transfer import model_name
from onibus.infra.settings import Settings
from onibus.schemas.records import Origin, Verdict
from tests.consumers.replay.running import moment, onibus, onibus_json, refusal
from tests.consumers.reward_models.annotation_logs import (
    MODEL,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
    updates,
)
from tests.consumers.reward_models.test_loop import trainer_in_a_thread
from tests.waiting import wait_until

SPEC = ("--spec", SPEC_NAME)


def test_a_cluster_and_a_file_of_it_give_the_same_bits_and_the_card_says_how(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:8]])
    onibus(settings, "labels", "set", TEXTS[1], "helpful", *SPEC)  # the partition ends with a marker
    out, exported = settings.runs_dir / "model.safetensors", settings.runs_dir / "log.jsonl"
    told = onibus_json(settings, "replay", "train", out, *SPEC, "--seed", 5, "--steps", 64)
    onibus(settings, "labels", "export", exported)
    nowhere = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    again = settings.runs_dir / "again.safetensors"
    onibus(nowhere, "replay", "train", again, *SPEC, "--from", exported, "--seed", 5, "--steps", 64)
    assert again.read_bytes() == out.read_bytes()
    assert told["sha256"] == sha256(out.read_bytes()).hexdigest()
    card = json.loads((settings.runs_dir / "model.safetensors.json").read_text())
    assert (card["seed"], card["gradient_steps"], card["spec"]["name"]) == (5, 64, SPEC_NAME)
    assert card["metrics"]["labels"] == 8
    made = read_model_file(out.read_bytes()).provenance
    assert made.annotation_offsets == card["annotation_offsets"]
    assert told["sha256"] in (settings.runs_dir / "model.safetensors.md").read_text()
    other = onibus_json(settings, "replay", "train", again, *SPEC, "--seed", 6, "--steps", 32)
    assert other["sha256"] != told["sha256"]


def test_until_a_version_it_learns_what_that_version_knew(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with trainer_in_a_thread(settings):
        wait_until(lambda: updates(settings), 60, "a version")
    publish_annotations(settings, [annotation(text) for text in TEXTS[4:8]])
    out = settings.runs_dir / "model.safetensors"
    known = updates(settings)[0].metrics["labels"]
    told = onibus_json(settings, "replay", "train", out, *SPEC, "--until", f"{MODEL}@1", "--steps", 32)
    assert told["metrics"]["labels"] == known
    told = onibus_json(settings, "replay", "train", out, *SPEC, "--steps", 32)
    assert told["metrics"]["labels"] == 8


def test_a_published_model_has_a_name_of_its_own_and_can_be_verified(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:8]])
    out = settings.runs_dir / "model.safetensors"
    arguments = ("replay", "train", out, *SPEC, "--steps", 64, "--helpful-weight", 3, "--publish")
    told = onibus_json(settings, *arguments, "--name", "careful")
    assert (told["model"], told["published"]) == (model_name("careful", SPEC_ID), True)
    (update,) = updates(settings)
    assert (update.model, update.weights_sha256.hex()) == (told["model"], told["sha256"])
    assert onibus_json(settings, *arguments, "--name", "careful")["published"] is False, "it is there already"
    line = refusal(settings, *arguments, "--name", "careful", "--seed", 1)
    assert "is on the bus already" in line
    checks = onibus_json(settings, "replay", "verify", "--no-labels")["trainings"]
    assert [(check["identical"], check["versions"]) for check in checks] == [(1, 1)]


@pytest.mark.parametrize("network", ["published", "small", "large"])
def test_another_network_is_trained_judges_and_is_verified(settings: Settings, network: str) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:8]])
    out = settings.runs_dir / "model.safetensors"
    asked = ("--steps", 32, "--network", network, "--name", network, "--publish")
    told = onibus_json(settings, "replay", "train", out, *SPEC, *asked)
    made = NETWORKS[network]
    assert told["architecture"]["channels"] == made.channels
    weights = read_model_file(out.read_bytes()).weights
    assert weights["embedding.weight"].shape == (256, made.embedding)
    assert onibus_json(settings, "replay", "evaluate", out)["figures"]["count"] == 8
    checks = onibus_json(settings, "replay", "verify", "--no-labels")["trainings"]
    assert [(check["identical"], check["versions"]) for check in checks] == [(1, 1)]


def test_weights_pull_the_judgement_to_their_class(settings: Settings) -> None:
    from onibus.consumers.reward_models.character_cnn import CharacterCNN, helpful_probability

    log = [
        annotation(text, Verdict.HELPFUL if n % 2 else Verdict.UNHELPFUL) for n, text in enumerate(TEXTS[:8])
    ]
    publish_annotations(settings, log)
    judged = {}
    for weight in (0.05, 20):
        out = settings.runs_dir / f"{weight}.safetensors"
        onibus(settings, "replay", "train", out, *SPEC, "--steps", 32, "--helpful-weight", weight)
        network = CharacterCNN()
        network.load_state_dict(dict(read_model_file(out.read_bytes()).weights))
        judged[weight] = helpful_probability(network, to_rows([to_bytes(text) for text in TEXTS[:8]])).mean()
    assert judged[0.05] < 0.45 < 0.55 < judged[20], judged


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--spec", SPEC_NAME, "--steps", "33"], "not a multiple of 32"),
        (["--spec", SPEC_NAME, "--network", "huge"], "published, published-0.1, small, large"),
        (["--spec", "goals"], "there is no spec goals"),
        (["--spec", SPEC_NAME, "--until"], ""),
        (["--spec", SPEC_NAME, "--until", f"{MODEL}@7"], "there is no reward model"),
        (["--spec", SPEC_NAME, "--from", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--spec", SPEC_NAME, "--until", "2020-01-01"], "no annotation, or none before --until"),
        (["--spec", SPEC_NAME, "--until", "yesterday"], "--until yesterday: not understood"),
    ],
)
def test_what_cannot_be_done_is_one_line(settings: Settings, arguments: list[str], complaint: str) -> None:
    publish_annotations(
        settings, [annotation(text) for text in TEXTS[:4]] + [annotation(TEXTS[0], origin=Origin.LLM)]
    )
    out = settings.runs_dir / "model.safetensors"
    if complaint:
        assert complaint in refusal(settings, "replay", "train", out, *arguments)
        assert not out.exists()
    else:
        onibus(settings, "replay", "train", out, *arguments, moment(), "--steps", 32)
