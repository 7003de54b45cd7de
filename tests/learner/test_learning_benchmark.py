"""The learning benchmark goes on where it was stopped, and asks of each reward what belongs to it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from onibus.consumers.annotator.panel_file import load_panel_file
from onibus.infra.vllm.server import VllmServer
from onibus.learner.benchmarks.learning import LearningPlan, Noise, _figure, _is_finished, steps_until_learnt
from onibus.learner.benchmarks.noisy_judges import _figures, noises

PLAN = LearningPlan("keyroom-s5", "keys-and-doors", ["retrieval"], [1], 1_000_000)


def row(steps: float, mean: float, episodes: float = 100) -> dict[str, float]:
    return {"env_steps": steps, "return": mean, "episodes_averaged": episodes}


@pytest.mark.parametrize(
    ("rows", "finished"),
    [
        ([], False),
        ([row(500_000, 0.85)], False),
        ([row(500_000, 0.9)], True),
        ([row(500_000, 0.89)], True),
        ([row(2_000, 1.0, episodes=5)], False),
        ([row(1_000_448, -0.9)], True),
        ([row(998_400, -0.9)], True),
        ([row(900_000, -0.9)], False),
    ],
)
def test_a_run_is_finished_when_it_has_learnt_or_taken_all_its_steps(
    rows: list[dict[str, float]], finished: bool
) -> None:
    assert _is_finished(PLAN, rows) is finished


def test_with_judged_messages_it_must_learn_and_without_it_must_not() -> None:
    learnt = [row(100_000, 0.1), row(400_000, 0.82), row(500_000, 0.7)]
    figure = _figure("ranking", 2, learnt)
    assert (figure.value, figure.reached) == (0.82, True)
    assert "400,000 steps" in figure.name
    assert _figure("none", 1, learnt).reached is False
    assert _figure("none", 1, [row(900_000, -0.3)]).reached is True


def test_runs_that_a_server_judges_share_their_topics_and_others_do_not() -> None:
    server = VllmServer("/models/m", 8000, "m", "1")
    judged = LearningPlan("keyroom-s5", "keys-and-doors-probability", ["retrieval"], [1, 2], 1_000, server)
    assert judged.topic_prefix("retrieval", 1) == judged.topic_prefix("classification", 2)
    assert judged.run_name("retrieval", 1) != judged.run_name("retrieval", 2)
    assert PLAN.topic_prefix("retrieval", 1) != PLAN.topic_prefix("retrieval", 2)


def test_each_noise_has_its_flags_and_its_runs(tmp_path: Path) -> None:
    found = noises([0.0, 0.2], [1], [0, 3])
    assert [noise.flags(tmp_path) for noise in found] == [
        (),
        ("--flip", "0.2", "--flip-seed", "1"),
        ("--flip", "0.2", "--flip-seed", "1", "--ask-again", "3"),
    ]
    plans = [LearningPlan("keyroom-s5", "keys-and-doors", ["ranking"], [1], 9, noise=one) for one in found]
    assert len({plan.run_name("ranking", 1) for plan in plans}) == len(plans)
    assert plans[0].run_name("ranking", 1) == "bench-learning-keyroom-s5-ranking-1"


def test_each_sampler_has_its_runs() -> None:
    names = {replace(PLAN, inference=one).run_name("retrieval", 1) for one in (None, "local", "central")}
    assert len(names) == 3


def test_several_noisy_judges_err_apart_from_each_other(tmp_path: Path) -> None:
    one, three = noises([0.2], [2], [0], [1, 3])
    flag, path = three.flags(tmp_path)
    judges = load_panel_file(Path(path)).judge
    assert flag == "--panel"
    assert [(judge.llm, judge.flip, judge.flip_seed) for judge in judges] == [
        ("rules", 0.2, 200), ("rules", 0.2, 201), ("rules", 0.2, 202)
    ]  # fmt: skip
    assert (one.suffix, three.suffix) == ("-flip0.2-2", "-flip0.2-2-judges3")


def test_of_a_noisy_run_the_steps_until_learnt_and_the_last_returns_are_reported() -> None:
    plan = LearningPlan("keyroom-s5", "keys-and-doors", ["ranking"], [1], 9, noise=Noise(0.2, 1, 3))
    learnt, last = _figures(plan, "ranking", 1, [row(1e5, 0.1), row(2e5, 0.8), row(3e5, 0.9)])
    assert (learnt.value, last.value) == (2e5, pytest.approx(0.6))
    assert last.name == (
        "ranking, 20% flipped (seed 1), asked again 3 times, seed 1: mean return after 300,000 steps"
    )
    (only,) = _figures(plan, "ranking", 1, [row(1e5, -0.5)])
    assert only.value == -0.5
    assert math.isnan(steps_until_learnt([row(1e5, -0.5)]))
