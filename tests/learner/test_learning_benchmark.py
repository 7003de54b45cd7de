"""The learning benchmark goes on where it was stopped, and asks of each reward what belongs to it."""

from __future__ import annotations

import pytest

from onibus.learner.benchmarks.learning import LearningPlan, _figure, _is_finished

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
