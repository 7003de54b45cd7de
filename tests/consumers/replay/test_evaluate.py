"""``onibus replay evaluate`` and ``compare``: models, labels, people and specs against each other."""

from __future__ import annotations

from itertools import combinations

from onibus.consumers.reward_models.unseen import is_held_out
from onibus.consumers.specs.spec_file import load_spec_file, publish_specs
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.records import Origin, Verdict
from tests.consumers.replay.running import moment, onibus, onibus_json, refusal
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
)
from tests.consumers.reward_models.test_ranking import compared

SPEC = ("--spec", SPEC_NAME)


def test_a_model_against_labels_people_and_another_model(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    wrong = annotation(HELPFUL_TEXTS[0], Verdict.UNHELPFUL, Origin.HUMAN)
    right = annotation(HELPFUL_TEXTS[1], Verdict.HELPFUL, Origin.HUMAN)
    model, other = settings.runs_dir / "model.safetensors", settings.runs_dir / "other.safetensors"
    onibus(settings, "replay", "train", model, *SPEC, "--steps", 160)
    onibus(settings, "replay", "train", other, *SPEC, "--steps", 32, "--seed", 1, "--network", "published")
    publish_annotations(settings, [wrong, right])
    told = onibus_json(settings, "replay", "evaluate", model, "--worst", 3)
    assert told["figures"]["count"] == len(TEXTS)
    assert told["figures"]["accuracy"] > 0.9
    assert told["figures"]["roc_auc"] > 0.9
    assert told["worst"][0]["texts"] == [HELPFUL_TEXTS[0]], "it learned that before a person said otherwise"
    assert told["worst"][0]["probability"] > 0.5
    assert told["worst"][0]["verdict"] == "unhelpful"
    assert "worst mistakes" in onibus(settings, "replay", "evaluate", model)
    by_people = onibus_json(settings, "replay", "evaluate", model, "--people")
    assert (by_people["figures"]["count"], by_people["figures"]["accuracy"]) == (2, 0.5)
    as_it_was = onibus_json(settings, "labels", "list", "--limit", 0)
    assert len(as_it_was) == len(TEXTS)

    people = onibus_json(settings, "replay", "compare", f"annotators:{SPEC_NAME}", f"people:{SPEC_NAME}")
    assert (people["count"], people["agreement"]) == (2, 0.5)
    assert [row["texts"] for row in people["differ"]] == [[HELPFUL_TEXTS[0]]]
    models = onibus_json(settings, "replay", "compare", model, other)
    assert models["count"] == len(TEXTS)
    assert models["agreement"] < 1
    assert "Cohen's kappa" in onibus(settings, "replay", "compare", model, f"labels:{SPEC_NAME}")
    assert "no file nobody" in refusal(settings, "replay", "evaluate", "nobody")


def test_labels_that_a_model_was_trained_on_are_named_and_can_be_held_out(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:16]])
    model, until = settings.runs_dir / "model.safetensors", moment()
    train = ("replay", "train", model, *SPEC, "--steps", 96)
    onibus(settings, *train)
    assert "was trained on the captions of all of them" in onibus(settings, "replay", "evaluate", model)
    line = refusal(settings, "replay", "evaluate", model, "--held-out")
    assert "was trained on the captions of all 16 labels" in line
    assert "replay train FILE --spec SPEC --until TIME" in line
    again = [annotation(TEXTS[0], origin=Origin.HUMAN)]
    publish_annotations(settings, [*again, *(annotation(text) for text in TEXTS[16:26])])
    assert "of 16 of them" in onibus(settings, "replay", "evaluate", model)
    onibus(settings, *train, "--until", until)
    new = onibus_json(settings, "replay", "evaluate", model, "--held-out")
    assert (new["figures"]["count"], new["trained_on"]) == (10, 0), "a caption judged again is not new"
    assert "was trained on" not in onibus(settings, "replay", "evaluate", model, "--held-out")
    assert onibus_json(settings, "replay", "evaluate", model)["trained_on"] == 16


def test_the_card_says_what_the_model_was_trained_on_and_what_was_held_out(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    model = settings.runs_dir / "model.safetensors"

    def card(seed: int) -> str:
        onibus(settings, "replay", "train", model, *SPEC, "--steps", 32, "--seed", seed)
        return (settings.runs_dir / "model.safetensors.md").read_text()

    tested = {seed: any(is_held_out(ids.caption_id(t), seed) for t in TEXTS) for seed in range(50)}
    with_some, with_none = (next(seed for seed, some in tested.items() if some is it) for it in (True, False))
    told = card(with_some)
    assert f"learned from all {len(TEXTS)} labels there, the newest of them written 20" in told
    assert "without one caption in 16" in told
    assert "| held_out_accuracy |" in told
    told = card(with_none)
    assert "too little to hold any of them out" in told
    assert "held_out_accuracy" not in told


def test_a_ranking_model_against_comparisons(settings: Settings) -> None:
    from dataclasses import replace

    spec = load_spec_file(f"{SPEC_NAME}-pairs").for_rules()
    spec_id = ids.spec_id(spec)
    publish_specs(settings, [spec])
    pairs = [replace(compared(*pair), spec_id=spec_id) for pair in combinations(TEXTS[:8], 2)]
    publish_annotations(settings, pairs)
    model = settings.runs_dir / "ranking.safetensors"
    onibus(settings, "replay", "train", model, "--spec", spec.name, "--steps", 96)
    told = onibus_json(settings, "replay", "evaluate", model)
    decided = sum(pair.verdict in (Verdict.FIRST, Verdict.SECOND) for pair in pairs)
    assert (told["figures"]["count"], told["left_out"]) == (decided, len(pairs) - decided)
    assert told["figures"]["accuracy"] > 0.9
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    assert "judges two captions" in refusal(settings, "replay", "evaluate", model, *SPEC)
