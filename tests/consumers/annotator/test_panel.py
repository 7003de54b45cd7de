"""Several judges per caption, each a real HTTP server: the majority, who said what, and one that is down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka.errors import KafkaTimeoutError

from onibus.consumers.annotator.asking_again import decided
from onibus.consumers.annotator.budget import Limits, dearest_question
from onibus.consumers.annotator.cost import Spending
from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.panel_file import JudgeEntry, PanelFile
from onibus.consumers.annotator.run import annotation_specs, language_model, spending_limits
from onibus.consumers.language_models.base import Answer, JudgeName, ModelRefusedError, Progress, Question
from onibus.consumers.language_models.panel import PanelModel, Seat
from onibus.consumers.specs.majority import can_change, majority, share_of_yes
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import ids
from onibus.schemas.records import Annotation, Origin, Verdict
from tests.command import run_onibus
from tests.consumers.annotating import annotations, annotator, publish, wait_for_labels
from tests.consumers.annotator.panels import (
    GOLD,
    NO,
    SPEC,
    UNSURE,
    WALLS,
    YES,
    about_gold,
    asked,
    labels,
    options_for,
    panel_of,
    says,
    servers,
)
from tests.consumers.chat_server import Reply
from tests.waiting import wait_until


@pytest.mark.parametrize(
    ("said", "verdict", "share"),
    [
        ([YES, YES, NO], YES, 2 / 3),
        ([NO, YES], UNSURE, 0.5),
        ([YES, UNSURE, UNSURE], UNSURE, 2 / 3),
        ([YES, NO, UNSURE], UNSURE, 0.5),
    ],
)
def test_most_judges_decide_and_the_probability_is_the_share_that_says_yes(
    said: list[Verdict], verdict: Verdict, share: float
) -> None:
    assert (majority(said), share_of_yes(said)) == (verdict, pytest.approx(share))


def test_a_missing_vote_counts_only_where_it_can_change_the_verdict() -> None:
    assert not can_change([YES, YES], 1)
    assert can_change([YES, NO], 1)
    assert can_change([YES], 1), "both would be level"
    assert not can_change([YES, YES, NO], 0)
    assert can_change([], 3)


def test_every_judge_is_asked_once_and_the_majority_is_in_force(settings: Settings) -> None:
    texts = GOLD + WALLS
    with servers(says(about_gold), says(about_gold), says(lambda _: True)) as running:
        specs, model = panel_of(running)
        with annotator(settings, specs=specs, model=model):
            publish(settings, texts)
            wait_for_labels(settings, len(texts))
            publish(settings, texts)
    assert {len(server.requests) for server in running} == {len(texts) + 1}, "and the question of the start"
    assert {body["model"] for body in running[1].requests} == {"model-1"}
    found, in_force = annotations(settings), labels(settings)
    assert len(found) == len(in_force) == len(texts)
    for text, answers in found.items():
        expected = YES if text in GOLD else NO
        assert {one.model: one.said for one in answers} == {
            "model-0": expected, "model-1": expected, "model-2": YES
        }  # fmt: skip
        assert {one.verdict for one in answers} == {expected}
        assert {one.probability for one in answers} == {1.0 if text in GOLD else 1 / 3}
        assert [one.attempt for one in answers] == [1, 1, 1]
        assert in_force[ids.caption_id(text)].verdict is expected
    dollars = Counter[str]()
    spending = Spending(specs)
    for answers in found.values():
        spending.count(answers)
    for who, cost in spending.by_asked.items():
        dollars[who.model] += round(cost.usd * 1e6)
    assert dollars == {f"model-{n}": len(texts) * 11 * (n + 1) for n in range(3)}


def test_transactions_that_fail_ask_no_judge_twice(settings: Settings) -> None:
    begun = Counter[str]()

    def on_step(step: str) -> None:
        begun[step] += 1
        if step == "offsets sent" and begun[step] in (1, 3):
            raise KafkaTimeoutError("injected")

    with servers(says(about_gold), says(about_gold), says(lambda _: True)) as running:
        specs, model = panel_of(running)
        with annotator(settings, specs=specs, model=model, on_step=on_step):
            publish(settings, GOLD)
            wait_for_labels(settings, len(GOLD))
            publish(settings, WALLS)
            wait_for_labels(settings, len(GOLD + WALLS))
    assert begun["offsets sent"] >= 3
    assert {len(server.requests) for server in running} == {len(GOLD + WALLS) + 1}
    assert {len(answers) for answers in annotations(settings).values()} == {3}


def test_without_a_judge_that_is_down_only_what_the_others_agree_on_is_labelled(settings: Settings) -> None:
    """Where they differ, its vote counts: that waits until it is back, and no judge is asked again."""
    up = threading.Event()
    third = says(about_gold)

    def flaky(body: dict[str, Any]) -> Reply:
        is_probe = len(running[2].requests) == 1
        return third(body) if up.is_set() or is_probe else (503, {"error": "down"})

    with servers(says(about_gold), says(lambda _: True), flaky) as running:
        specs, model = panel_of(running, patience=0.5)
        with annotator(settings, specs=specs, model=model):
            publish(settings, GOLD + WALLS)
            wait_for_labels(settings, len(GOLD))
            told = annotations(settings)
            assert set(told) == set(GOLD)
            assert {tuple(one.model for one in answers) for answers in told.values()} == {
                ("model-0", "model-1")
            }
            up.set()
            wait_for_labels(settings, len(GOLD + WALLS), timeout=120)
    found = annotations(settings)
    for text in WALLS:
        assert [one.said for one in found[text]] == [NO, YES, NO]
        assert found[text][-1].verdict is NO
    assert [len(server.requests) for server in running[:2]] == [len(GOLD + WALLS) + 1] * 2


def test_with_a_quorum_a_judge_that_is_down_is_not_waited_for_where_the_others_differ() -> None:
    with servers(says(about_gold), says(lambda _: False), lambda _: (503, {"error": "down"})) as running:
        specs, model = panel_of(running, patience=0.5, quorum=2)
        (spec_id,) = specs
        answer = decided(asked(model, spec_id, GOLD[0]))
    assert (answer.verdict, answer.votes) == (UNSURE, [UNSURE, UNSURE])
    assert [one.said for one in answer.attempts] == [YES, NO]
    assert answer.attempts[0].reason == "2 answers: 1 helpful, 1 unhelpful; without model-2"


def test_a_judge_that_cannot_be_read_counts_as_unsure_and_stands_on_the_log() -> None:
    rambling = "I would rather talk about the weather."
    with servers(says(lambda _: True), lambda _: (200, rambling), says(lambda _: True)) as running:
        specs, model = panel_of(running)
        (spec_id,) = specs
        answer = asked(model, spec_id, GOLD[0])
    assert (answer.verdict, answer.given_up, answer.votes) == (YES, "", [YES, UNSURE, YES])
    unreadable = [one for one in answer.attempts if one.verdict is None]
    assert [one.judge.model for one in unreadable if one.judge] == ["model-1"] * 3
    assert {one.raw_answer for one in unreadable} == {rambling}


def test_what_no_judge_can_read_is_given_up() -> None:
    with servers(lambda _: (200, "?"), lambda _: (200, "!")) as running:
        specs, model = panel_of(running)
        (spec_id,) = specs
        answer = asked(model, spec_id, GOLD[0])
    assert answer.verdict is UNSURE
    assert answer.given_up.count("no verdict in 3 answers") == 2


def test_a_judge_that_refuses_the_key_ends_the_panel() -> None:
    with servers(says(lambda _: True), lambda _: (401, {"error": "wrong key"})) as running:
        specs, model = panel_of(running)
        (spec_id,) = specs
        with pytest.raises(ModelRefusedError, match="refuses the key"):
            asked(model, spec_id, GOLD[0])


def test_a_panel_is_asked_again_as_a_judge_is(settings: Settings) -> None:
    texts = GOLD[:3]
    with servers(says(about_gold), says(lambda _: False)) as running:
        specs, model = panel_of(running)
        with annotator(settings, specs=specs, model=model, ask_again=1, judges=2):
            publish(settings, texts)
            wait_until(lambda: [len(one) for one in annotations(settings).values()] == [4] * 3, 60, "answers")
    for answers in annotations(settings).values():
        assert [one.said for one in answers] == [YES, NO] * 2
        assert {one.verdict for one in answers} == {UNSURE}
        assert answers[-1].reason.startswith("4 answers: 2 helpful, 2 unhelpful")
    assert {len(server.requests) for server in running} == {len(texts) * 2 + 1}


def test_a_budget_ends_a_panel_before_it_is_exceeded(settings: Settings) -> None:
    with servers(says(about_gold), says(about_gold)) as running:
        specs, model = panel_of(running)
        (spec,) = specs.values()
        most = 2 * dearest_question([spec]).tokens + 10 * 2 * 14
        limits = replace(spending_limits(options_for(running)) or Limits(), tokens=most)
        with annotator(settings, specs=specs, model=model, limits=limits) as process:
            publish(settings, GOLD + WALLS)
            wait_until(lambda: process.summary is not None, 60, "the end of the budget")
    spent = sum(one.tokens_in + one.tokens_out for found in annotations(settings).values() for one in found)
    assert 0 < spent + 2 * 14 <= most


def test_how_far_the_judges_and_people_agree_is_shown(settings: Settings, tmp_path: Path) -> None:
    def onibus(*arguments: str) -> str:
        done = run_onibus(*arguments, folder=tmp_path, environment=environment_of(settings))
        assert done.returncode == 0, done.stderr
        return done.stdout

    with servers(says(about_gold), says(about_gold), says(lambda _: True)) as running:
        specs, model = panel_of(running)
        with annotator(settings, specs=specs, model=model):
            publish(settings, GOLD + WALLS)
            wait_for_labels(settings, len(GOLD + WALLS))
    publish(settings, WALLS[3:4] * 4)
    onibus("labels", "set", WALLS[0], "unhelpful", "--spec", SPEC, "--person", "ann")
    (found,) = json.loads(onibus("labels", "agreement", "--by-frequency", "--disputed", "3", "--json"))
    pairs = {tuple(pair["judges"]): pair for pair in found["pairs"]}
    assert found["judged"] == {"ann (person)": 1, "model-0": 24, "model-1": 24, "model-2": 24}
    same, other = pairs["model-0", "model-1"], pairs["model-0", "model-2"]
    assert (same["both"], same["agreed"], same["kappa"]) == (24, 24, 1.0)
    assert (other["both"], other["agreed"], other["kappa"]) == (24, 12, 0.0)
    assert pairs["ann (person)", "model-2"] == {
        "judges": ["ann (person)", "model-2"], "both": 1, "agreed": 0, "kappa": 0.0
    }  # fmt: skip
    assert 0 < found["alpha"] < 1
    first, *others = found["disputed"]
    assert (first["texts"], first["frequency"]) == ([WALLS[3]], 5)
    assert first["said"] == {"model-0": "unhelpful", "model-1": "unhelpful", "model-2": "helpful"}
    assert {one["frequency"] for one in others} == {1}
    shown = onibus("labels", "agreement", "--spec", SPEC, "--disputed", "12")
    assert "4 judges; Krippendorff's alpha" in shown
    assert WALLS[0] in shown


def test_unsure_by_probabilities_is_readable_where_several_decide() -> None:
    (spec,) = annotation_specs(
        [load_spec_file("goals-probability")],
        AnnotateOptions(llm="openai", model="m", base_url="http://x/v1"),
    ).values()
    found = []
    for raw in ('{" Yes": -0.7, " No": -0.7}', "Maybe (without log-probabilities)", '{" perhaps": -0.1}'):
        one = replace(
            Annotation.unasked(ids.spec_id(spec), bytes(16), ("x",), YES, Origin.LLM, "a1", 0, 0),
            raw_answer=raw,
            said=UNSURE,
            probability=2 / 3,
        )
        found.append(Spending({ids.spec_id(spec): spec}).is_unreadable(one))
    assert found == [False, True, True]


def test_judges_that_err_by_themselves_err_less_together() -> None:
    """At a share p each, three are wrong together with 3 p^2 (1 - p) + p^3: 10 % of 20 %."""
    judges = tuple(JudgeEntry(llm="rules", flip=0.2, flip_seed=seed) for seed in range(3))
    options = AnnotateOptions(specs=("gold",), panel=PanelFile(judge=judges))
    model = language_model([load_spec_file("gold")], options)
    (spec_id,) = annotation_specs([load_spec_file("gold")], options)

    async def ask() -> list[Answer]:
        return [await model.answer(Question(spec_id, f"It's a wall, number {n}.")) for n in range(2_000)]

    answers = asyncio.run(ask())
    alone = [np.mean([answer.votes[judge] is YES for answer in answers]) for judge in range(3)]
    assert alone == pytest.approx([0.2] * 3, abs=0.03)
    assert np.mean([answer.verdict is YES for answer in answers]) == pytest.approx(0.104, abs=0.02)


def test_rules_and_a_server_judge_together(settings: Settings) -> None:
    with servers(says(about_gold)) as running:
        judges = (
            JudgeEntry(llm="rules"),
            JudgeEntry(llm="rules", flip=1.0, flip_seed=1),
            JudgeEntry(model="m", base_url=running[0].url),
        )
        options = AnnotateOptions(specs=(SPEC,), panel=PanelFile(judge=judges))
        files = [load_spec_file(SPEC)]
        specs, model = annotation_specs(files, options), language_model(files, options)
        with annotator(settings, specs=specs, model=model):
            publish(settings, WALLS[:2])
            wait_for_labels(settings, 2)
    for answers in annotations(settings).values():
        assert [(one.origin, one.said, one.was_flipped) for one in answers] == [
            (Origin.RULES, NO, False), (Origin.RULES, YES, True), (Origin.LLM, NO, False)
        ]  # fmt: skip
        assert len({(one.model, one.model_revision) for one in answers}) == 3
        assert {one.verdict for one in answers} == {NO}


def test_what_a_judge_settles_when_it_is_cut_short_counts() -> None:
    class Sampling:
        origin = Origin.LLM

        async def check(self) -> None: ...

        async def answer(self, question: Question) -> Answer:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return Answer.of(question, YES)

        def progress(self, question: Question) -> Progress:
            return Progress.SENT

        async def close(self) -> None: ...

    seats = [Seat({b"": JudgeName(name, "", Origin.LLM)}, Sampling()) for name in ("a", "b")]

    async def ended() -> Answer:
        asking = asyncio.ensure_future(PanelModel(seats).answer(Question(b"", "It is dark.")))
        await asyncio.sleep(0.01)
        asking.cancel()
        return await asking

    answer = asyncio.run(ended())
    assert (answer.verdict, len(answer.attempts)) == (YES, 2)
