"""How long a demo is watched."""

from __future__ import annotations

import math

import pytest

from onibus.infra.demo.watch import watch_for


def test_what_is_learnt_fast_is_watched_for_four_minutes() -> None:
    watch = watch_for(None, "keyroom-s5", "retrieval")
    assert not watch.is_over(200, 0.9)
    assert watch.is_over(240, 0.81)


def test_on_a_slow_machine_the_demo_goes_on_until_it_is_learnt_but_not_for_ever() -> None:
    watch = watch_for(None, "keyroom-s5", "classification")
    assert not watch.is_over(599, 0.8)
    assert not watch.is_over(599, math.nan)
    assert watch.is_over(300, 0.81)
    assert watch.is_over(600, 0.1)


@pytest.mark.parametrize(("task", "reward"), [("keyroom-s5", "none"), ("score", "retrieval")])
def test_what_does_not_learn_within_minutes_is_shown_for_four(task: str, reward: str) -> None:
    watch = watch_for(None, task, reward)
    assert not watch.is_over(239, 5_000)
    assert watch.is_over(240, math.nan)
    assert watch.until == "4:00"


def test_minutes_that_are_asked_for_are_kept() -> None:
    watch = watch_for(1.5, "keyroom-s5", "retrieval")
    assert not watch.is_over(89, 1.0)
    assert watch.is_over(90, 0.0)
    assert watch.until == "1:30"
