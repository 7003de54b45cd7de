"""The benchmark of noisy labels: its captions, its noise, and what it says of both models."""

from __future__ import annotations

import pytest

from onibus.consumers.language_models.rules import RuleJudge
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.learner.benchmarks.noisy_labels import _annotations, _captions, measure

MESSAGES = ["You kill the newt!", "a - 5 daggers (in quiver).", "It's a wall.", "You see here 12 arrows."]


def test_captions_differ_are_of_messages_and_one_verdict_in_ten_is_turned_round() -> None:
    captions = _captions(MESSAGES, 2_000)
    assert len(set(captions)) == 2_000
    assert _captions(MESSAGES, 2_000) == captions
    assert all(1 <= len(caption.split(" / ")) <= 3 for caption in captions)
    rules = load_spec_file("goals").rules
    assert rules is not None
    judge = RuleJudge(rules)
    wrong = [a.verdict is not judge.judge(a.texts[0])[0] for a in _annotations(captions, judge)]
    assert sum(wrong) / len(wrong) == pytest.approx(0.1, abs=0.02)


@pytest.mark.slow
def test_it_says_how_both_do() -> None:
    told = {figure.name: figure.value for figure in measure(4_000, 100, 0, "cpu")}
    assert told["published network and schedule: gradient steps"] == 2 * 16
    for name in ("published network and schedule", "our default"):
        assert 0 <= told[f"{name}: balanced accuracy"] <= 1
        assert told[f"{name}: area under the ROC curve"] > 0.5
