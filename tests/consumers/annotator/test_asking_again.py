"""Further answers about captions: which are asked for, what they come to, that no call is counted twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from kafka.errors import KafkaTimeoutError

from onibus.consumers.annotator.asking_again import AskingAgain, Tally
from onibus.consumers.annotator.batch import Subject
from onibus.consumers.annotator.budget import Limits, dearest_question
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.language_models.base import Answer, Progress, Question
from onibus.consumers.language_models.flipping import FlippingModel, Flips
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, CaptionOffset, Label, Origin, Verdict
from tests.command import run_onibus
from tests.consumers.annotating import annotations, annotator, publish, records, rules_specs, wait_for_labels
from tests.waiting import wait_until

YES, NO, UNSURE = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE
GOLD = [f"You see here {number} gold pieces." for number in range(40)]
WALLS = [f"It's a wall, number {number}." for number in range(40)]
FURTHER = 4


def tally(*said: Verdict) -> Tally:
    caption_id = ids.caption_id(GOLD[0])
    subject = Subject(bytes(8), caption_id, (GOLD[0],), ())
    return Tally(0, subject, PendingCaption(0, 0, caption_id, GOLD[0], 0, b""), list(said))


def labels(settings: Settings) -> dict[bytes, Verdict]:
    return {r.key[8:]: codec.decode(Label, r.value).verdict for r in records(settings, "labels")}


class HesitantModel:
    """Is unsure of everything at first, and sure when it is asked again."""

    origin = Origin.RULES

    def __init__(self, sure_after: int = 0, tokens: int = 0) -> None:
        self.asked = Counter[str]()
        self._sure_after, self._tokens = sure_after, tokens

    async def check(self) -> None:
        pass

    async def answer(self, question: Question) -> Answer:
        self.asked[question.text] += 1
        verdict = YES if question.earlier > self._sure_after else UNSURE
        return Answer.of(question, verdict, tokens_in=self._tokens)

    def progress(self, question: Question) -> Progress:
        return Progress.SENT

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("said", "verdict", "share"),
    [
        ([YES], YES, 1.0),
        ([YES, NO], UNSURE, 0.5),
        ([NO, YES, NO], NO, 1 / 3),
        ([UNSURE, YES, YES], YES, 5 / 6),
        ([Verdict.TIE, Verdict.TIE, Verdict.FIRST], Verdict.TIE, 2 / 3),
        ([Verdict.FIRST, Verdict.SECOND, Verdict.FIRST], Verdict.FIRST, 2 / 3),
    ],
)
def test_most_answers_decide_and_the_share_of_yes_is_kept(
    said: list[Verdict], verdict: Verdict, share: float
) -> None:
    assert (tally(*said).verdict, tally(*said).share) == (verdict, pytest.approx(share))


@pytest.mark.parametrize(
    ("said", "is_open"),
    [([], False), ([YES], True), ([YES, YES], True), ([YES, YES, YES], False), ([YES, NO, YES, NO], False)],
)
def test_it_is_asked_until_further_answers_cannot_change_the_verdict(
    said: list[Verdict], is_open: bool
) -> None:
    assert tally(*said).is_open(4) is is_open


def test_what_came_often_and_the_model_disagrees_with_is_asked_first() -> None:
    again = AskingAgain(2)
    again.begin(0)
    texts = {"often": GOLD[0], "agreed": GOLD[1], "rare": GOLD[2], "unsure": GOLD[3], "gone": GOLD[4]}
    for name, text in texts.items():
        again.apply(0, answer_about(text, UNSURE if name == "unsure" else YES))
    for name, times in {"often": 9, "agreed": 20, "rare": 3}.items():
        again.came_again(0, [ids.caption_id(texts[name])] * times)
    again.probabilities = lambda _, subjects: np.array([0.95 if t == (GOLD[1],) else 0.1 for t in subjects])
    assert again.choose(10) == [], "the log is not read to its end"
    again.is_complete(0)
    again._due = 0.0
    chosen = [one.subject.texts[0] for one in again.choose(10)]
    assert chosen == [texts[name] for name in ("unsure", "often", "rare", "agreed")]
    again._due = 0.0
    assert again.choose(10) == [], "they are under way"


def test_the_majority_of_further_answers_decides_and_each_is_on_the_log_once(settings: Settings) -> None:
    specs, rules = rules_specs("gold")
    model = FlippingModel(rules, Flips(0.25, seed=5))
    texts = GOLD + WALLS
    with annotator(settings, specs=specs, model=model, ask_again=FURTHER):
        publish(settings, texts)
        wait_for_labels(settings, len(texts))
        publish(settings, texts)
        wait_until(
            lambda: all(is_settled(found) for found in annotations(settings).values()), 60, "answers", 0.5
        )
    found, in_force = annotations(settings), labels(settings)
    for text, answers in found.items():
        said = [one.said or one.verdict for one in answers]
        expected = [flipped_rule(text, Flips(0.25, seed=5), number) for number in range(len(answers))]
        assert said == expected, text
        assert answers[-1].verdict is tally(*expected).verdict is in_force[ids.caption_id(text)]
        assert [one.was_waiting for one in answers[1:]] == [True] * (len(answers) - 1)
    first = sum(answers[0].verdict is not rule(text) for text, answers in found.items())
    last = sum(in_force[ids.caption_id(text)] is not rule(text) for text in found)
    assert last < first / 2, (first, last)


def test_an_annotator_that_starts_anew_goes_by_the_log(settings: Settings) -> None:
    specs, rules = rules_specs("gold")
    model = FlippingModel(rules, Flips(0.25, seed=5))
    for name in ("a1", "a2"):
        with annotator(settings, name, specs=specs, model=model, ask_again=FURTHER):
            publish(settings, GOLD)
            wait_for_labels(settings, len(GOLD))
            publish(settings, GOLD)
            wait_until(lambda: all(map(is_settled, annotations(settings).values())), 60, "answers", 0.5)
    for text, answers in annotations(settings).items():
        expected = [flipped_rule(text, Flips(0.25, seed=5), number) for number in range(len(answers))]
        assert [one.said or one.verdict for one in answers] == expected
        assert len(answers) <= 1 + FURTHER


def test_transactions_that_fail_leave_no_answer_twice_and_none_out(settings: Settings) -> None:
    specs, rules = rules_specs("gold")
    flips, begun = Flips(0.25, seed=5), Counter[str]()

    def on_step(step: str) -> None:
        begun[step] += 1
        if step == "offsets sent" and begun[step] in (2, 4, 7):
            raise KafkaTimeoutError("injected")

    model = FlippingModel(rules, flips)
    with annotator(settings, specs=specs, model=model, ask_again=FURTHER, on_step=on_step):
        publish(settings, GOLD)
        wait_for_labels(settings, len(GOLD))

        def are_settled() -> bool:
            publish(settings, GOLD)  # what came again before a failure is counted no longer after it
            return all(map(is_settled, annotations(settings).values()))

        wait_until(are_settled, 60, "answers", 1.0)
    found, in_force = annotations(settings), labels(settings)
    assert len(found) == len(GOLD)
    for text, answers in found.items():
        expected = [flipped_rule(text, flips, number) for number in range(len(answers))]
        assert [one.said or one.verdict for one in answers] == expected
        assert in_force[ids.caption_id(text)] is tally(*expected).verdict


def test_unsure_captions_are_asked_again_although_they_do_not_come_again(settings: Settings) -> None:
    specs, _ = rules_specs("gold")
    model = HesitantModel()
    with annotator(settings, specs=specs, model=model, ask_again=2) as running:
        publish(settings, GOLD[:5])
        wait_until(lambda: set(labels(settings).values()) == {YES}, 60, "verdicts")
        summary = running.stop()
    assert (summary.labels, summary.further) == (5, 10)
    assert "10 further answers" in summary.line()
    assert set(model.asked.values()) == {3}


def test_captions_that_do_not_come_again_are_asked_once(settings: Settings) -> None:
    specs, rules = rules_specs("gold")
    with annotator(settings, specs=specs, model=rules, ask_again=3):
        publish(settings, GOLD)
        wait_for_labels(settings, len(GOLD))
        for _ in range(2):
            publish(settings, WALLS[:1])
            wait_for_labels(settings, len(GOLD) + 1)
        wait_until(lambda: len(annotations(settings)[WALLS[0]]) == 3, 60, "the one that came again")
    assert {len(annotations(settings)[text]) for text in GOLD} == {1}


def test_a_verdict_of_a_person_is_neither_asked_about_nor_changed(settings: Settings, tmp_path: Path) -> None:
    specs, rules = rules_specs("gold")
    with annotator(settings, specs=specs, model=rules):
        publish(settings, GOLD[:2])
        wait_for_labels(settings, 2)
    command = ("labels", "set", GOLD[0], "unhelpful", "--spec", "gold")
    done = run_onibus(*command, folder=tmp_path, environment=environment_of(settings))
    assert done.returncode == 0, done.stderr
    with annotator(settings, "a2", specs=specs, model=rules, ask_again=3):
        publish(settings, GOLD[:2])
        wait_until(lambda: len(annotations(settings)[GOLD[1]]) == 3, 60, "the other one")
    assert [one.origin for one in annotations(settings)[GOLD[0]]] == [Origin.RULES, Origin.HUMAN]
    assert labels(settings)[ids.caption_id(GOLD[0])] is NO


def test_a_budget_covers_further_answers(settings: Settings) -> None:
    specs, _ = rules_specs("gold")
    dearest = dearest_question(specs.values()).tokens
    model = HesitantModel(sure_after=20, tokens=dearest)
    with annotator(settings, specs=specs, model=model, ask_again=20, limits=Limits(tokens=12 * dearest)):
        publish(settings, GOLD[:5])
        wait_until(lambda: model.asked.total() == 12, 60, "all that there is money for")
        publish(settings, GOLD[:5])
        wait_until(lambda: sum(map(len, annotations(settings).values())) == 12, 60, "their answers")
    assert model.asked.total() == 12


def answer_about(text: str, verdict: Verdict) -> Annotation:
    return Annotation(
        spec_id=bytes(8),
        subject_id=ids.caption_id(text),
        texts=(text,),
        verdict=verdict,
        origin=Origin.LLM,
        sources=(CaptionOffset(0, 3),),
        prompt_hash=bytes(16),
        model="m",
        model_revision="",
        sampling={},
        raw_answer="",
        reason="",
        tokens_in=0,
        tokens_out=0,
        latency_us=0,
        attempt=1,
        annotator="a1",
        observed_at=0,
        annotated_at=0,
    )


def is_settled(answers: list[Annotation]) -> bool:
    return not tally(*(one.said or one.verdict or UNSURE for one in answers)).is_open(1 + FURTHER)


def rule(text: str) -> Verdict:
    return YES if text in GOLD else NO


def flipped_rule(text: str, flips: Flips, earlier: int) -> Verdict:
    """What the rules with flips say of a caption that has so many answers."""
    is_flipped = flips.of(Question(bytes(8), text, earlier=earlier))
    return (NO if rule(text) is YES else YES) if is_flipped else rule(text)
