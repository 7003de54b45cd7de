"""Verdicts that are wrong on purpose: which, how often, and that the log and the labels say so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.run import annotation_specs, language_model
from onibus.consumers.language_models.base import Answer, Question
from onibus.consumers.language_models.flipping import Flips, flipped
from onibus.consumers.specs.spec_file import load_spec_file, publish_specs
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, Label, Verdict
from tests.command import run_onibus
from tests.consumers.annotating import annotator, publish, records, wait_for_labels

SPEC_ID = bytes(8)
TEXTS = [f"You see here {number} gold pieces." for number in range(2_000)]
OPPOSITES = [(Verdict.HELPFUL, Verdict.UNHELPFUL), (Verdict.FIRST, Verdict.SECOND)]


def test_the_share_of_flipped_verdicts_is_the_one_that_was_asked_for() -> None:
    flips = Flips(0.2, seed=1)
    shares = [
        sum(flips.of(Question(SPEC_ID, text, earlier=earlier)) for text in TEXTS) / len(TEXTS)
        for earlier in range(3)
    ]
    assert shares == pytest.approx([0.2] * 3, abs=0.03)


def test_the_same_seed_flips_the_same_captions_whoever_asks_and_another_seed_others() -> None:
    def chosen(seed: int, earlier: int = 0) -> list[bool]:
        return [Flips(0.2, seed).of(Question(SPEC_ID, text, object(), earlier=earlier)) for text in TEXTS]

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert chosen(1) != chosen(1, earlier=1)


def test_no_share_flips_nothing_and_is_no_other_spec() -> None:
    (spec,) = annotation_specs([load_spec_file("gold")], AnnotateOptions(specs=("gold",))).values()
    assert Flips(0.0).spec(spec) is spec
    assert not any(Flips(0.0).of(Question(SPEC_ID, text)) for text in TEXTS)


@pytest.mark.parametrize(("verdict", "opposite"), OPPOSITES + [(b, a) for a, b in OPPOSITES])
def test_a_flipped_answer_is_the_opposite_and_keeps_what_was_said(
    verdict: Verdict, opposite: Verdict
) -> None:
    answer = flipped(Answer.of(Question(SPEC_ID, TEXTS[0]), verdict, raw_answer="as it came"))
    assert (answer.verdict, answer.attempts[-1].verdict) == (opposite, opposite)
    assert answer.attempts[-1].was_flipped
    assert answer.attempts[-1].raw_answer == "as it came"


@pytest.mark.parametrize("verdict", [Verdict.UNSURE, Verdict.TIE])
def test_what_has_no_opposite_stays(verdict: Verdict) -> None:
    answer = Answer.of(Question(SPEC_ID, TEXTS[0]), verdict)
    assert flipped(answer) is answer


def test_flipped_rules_have_a_spec_of_their_own_and_answer_under_it() -> None:
    options = AnnotateOptions(specs=("gold",), flips=Flips(1.0, seed=3))
    files = [load_spec_file("gold")]
    ((spec_id, spec),) = annotation_specs(files, options).items()
    assert spec_id != ids.spec_id(files[0].for_rules())
    assert spec.model_revision.endswith("100% flipped, seed 3")
    model = language_model(files, options)
    assert asyncio.run(model.answer(Question(spec_id, TEXTS[0]))).verdict is Verdict.UNHELPFUL


def test_annotations_and_labels_say_which_verdicts_were_flipped(settings: Settings, tmp_path: Path) -> None:
    def onibus(*arguments: object) -> str:
        result = run_onibus(*arguments, folder=tmp_path, environment=environment_of(settings))
        assert result.returncode == 0, result.stderr
        return result.stdout

    options = AnnotateOptions(specs=("gold",), flips=Flips(0.3, seed=1))
    files, texts = [load_spec_file("gold")], TEXTS[:60]
    specs = annotation_specs(files, options)
    publish_specs(settings, list(specs.values()))
    with annotator(settings, specs=specs, model=language_model(files, options)):
        publish(settings, texts)
        wait_for_labels(settings, len(texts))
    chosen = {text for text in texts if options.flips.of(Question(SPEC_ID, text))}
    answers = [codec.decode(Annotation, record.value) for record in records(settings, "annotations")]
    assert 0 < len(chosen) < len(texts)
    assert {answer.texts[0] for answer in answers if answer.was_flipped} == chosen
    labels = {r.key[8:]: codec.decode(Label, r.value).verdict for r in records(settings, "labels")}
    wrong = {text for text in texts if labels[ids.caption_id(text)] is Verdict.UNHELPFUL}
    assert wrong == chosen
    listed = json.loads(onibus("labels", "list", "--limit", 0, "--json"))
    assert {row["texts"][0] for row in listed if row["was_flipped"]} == chosen
    assert "unhelpful, flipped by" in onibus("labels", "show", sorted(chosen)[0])
