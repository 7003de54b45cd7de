"""The reference set is as its card says, and the keyword rules know the events that specs are about."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from onibus.consumers.labels.agreement import cohens_kappa
from onibus.consumers.language_models.rules import RuleJudge
from onibus.consumers.replay.spec_evaluation import fitted
from onibus.consumers.specs.reference_set import built_in_path, read_references
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.errors import OnibusError
from onibus.schemas.records import Verdict
from tests.command import REPOSITORY, run_onibus, the_one_line

GOALS = ("goals", "combat", "gold", "stairs", "keys-and-doors")


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_has_its_captions_and_each_caption_once(goal: str) -> None:
    found = read_references(built_in_path(), goal)
    assert len(found) >= 400
    assert len({one.caption for one in found}) == len(found)
    counts = Counter(one.verdict for one in found)
    assert counts[Verdict.HELPFUL] >= 14
    for half in ("first", "second"):
        assert {one.verdict for one in found if one.half == half} >= {Verdict.HELPFUL, Verdict.UNHELPFUL}
    card = (REPOSITORY / "consumers" / "specs" / "reference" / "README.md").read_text()
    assert f"{len(found)} captions" in card


def test_what_is_debatable_has_a_reason() -> None:
    for line in built_in_path().read_text().splitlines():
        row = json.loads(line)
        if "unsure" in row["verdicts"].values():
            assert row.get("reason"), row["caption"]


@pytest.mark.parametrize("goal", GOALS)
def test_the_card_says_how_far_two_readers_agree(goal: str) -> None:
    rows = [json.loads(line) for line in built_in_path().read_text().splitlines()]
    first = [row["verdicts"][goal] for row in rows]
    second = [row.get("second_reader", {}).get(goal, row["verdicts"][goal]) for row in rows]
    same = sum(one == other for one, other in zip(first, second, strict=True)) / len(rows)
    decided = [pair for pair in zip(first, second, strict=True) if "unsure" not in pair]
    opposite = sum(one != other for one, other in decided)
    kappa = cohens_kappa(first, second)
    card = (REPOSITORY / "consumers" / "specs" / "reference" / "README.md").read_text()
    assert f"| `{goal}` | {same:.1%} | {kappa:.3f} | {len(decided)} | {opposite} |".replace("%", " %") in card


@pytest.mark.parametrize("goal", GOALS)
def test_the_rules_are_right_about_nearly_all_of_it(goal: str) -> None:
    rules = load_spec_file(goal).rules
    assert rules is not None
    judge = RuleJudge(rules)
    decided = [one for one in read_references(built_in_path(), goal) if one.verdict is not Verdict.UNSURE]
    shares = []
    for verdict in (Verdict.HELPFUL, Verdict.UNHELPFUL):
        of_kind = [one for one in decided if one.verdict is verdict]
        shares.append(sum(judge.judge(one.caption)[0] is verdict for one in of_kind) / len(of_kind))
    assert sum(shares) / 2 > 0.95


def test_going_down_is_what_stairs_is_about_and_going_up_is_not() -> None:
    rules = load_spec_file("stairs").rules
    assert rules is not None
    assert RuleJudge(rules).judge("You descend the stairs.")[0] is Verdict.HELPFUL
    assert RuleJudge(rules).judge("You climb up the stairs.")[0] is Verdict.UNHELPFUL


def test_a_calibration_is_found_that_fits_the_labels() -> None:
    odds = np.linspace(-4, 4, 400)
    true = np.random.default_rng(0).random(400) < 1 / (1 + np.exp(-(2 * odds - 3)))
    scale, offset = fitted(1 / (1 + np.exp(-odds)), true)
    assert 1.2 < scale < 3
    assert abs(-offset / scale - 1.5) < 0.6, "the middle between the two kinds, about"


def test_a_fit_does_not_run_away_where_probabilities_are_near_one() -> None:
    chance = np.random.default_rng(0)
    true = np.array([True] * 10 + [False] * 260)
    odds = np.where(true, chance.normal(5, 2, 270), chance.normal(1.5, 2, 270))
    scale, offset = fitted(1 / (1 + np.exp(-odds)), true)
    assert 0.5 < scale < 3
    assert odds[~true].mean() < -offset / scale < odds[true].mean(), "the threshold lies between the two"


def test_a_judge_is_held_against_a_file_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    rows = [("You see here a key.", "helpful"), ("It's a wall.", "unhelpful"), ("The door opens.", "unsure")]
    own.write_text("".join(json.dumps({"caption": c, "verdict": v}) + "\n" for c, v in rows))
    flags = ["spec", "evaluate", "keys-and-doors", "--against", own, "--half", "all", "--json"]
    found = json.loads(run_onibus(*flags, folder=tmp_path).stdout)["keys-and-doors"]
    assert (found["balanced_accuracy"], found["figures"]["count"], found["left_out"]) == (1.0, 2, 1)
    own.write_text('{"caption": "x"}\n')
    assert "line 1" in the_one_line(run_onibus(*flags, folder=tmp_path))
    with pytest.raises(OnibusError, match="none of the goals"):
        read_references(built_in_path(), "mine")
    with pytest.raises(OnibusError, match=r"--goal nosuch: .*give goals or "):
        read_references(built_in_path(), "mine", "nosuch")


def test_a_spec_that_compares_two_is_not_evaluated(tmp_path: Path) -> None:
    error = the_one_line(run_onibus("spec", "evaluate", "goals-pairs", folder=tmp_path))
    assert "evaluate takes specs that judge one" in error
