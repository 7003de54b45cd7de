"""Options of a run: defaults by task, what is refused, what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.learner.option_groups import parse_spec_share
from onibus.learner.options import load_options, make_options, save_options


@pytest.mark.parametrize(
    ("task", "extrinsic", "specification", "coefficient"),
    [
        ("score", 0.1, "goals", 0.4),
        ("oracle", 10.0, "goals", 0.4),
        ("staircase-level-3", 10.0, "goals", 0.4),
        ("keyroom-s5", 1.0, "keys-and-doors", 0.5),
    ],
)
def test_defaults_follow_the_task(
    task: str, extrinsic: float, specification: str, coefficient: float
) -> None:
    options = make_options(task, run="r")
    assert options.extrinsic_coefficient == extrinsic
    assert [(s.name, s.coefficient) for s in options.specs] == [(specification, coefficient)]


def test_what_is_given_wins_over_the_tasks_default() -> None:
    assert (
        make_options("score", run="r", extrinsic_coefficient=0.0, learning_rate=None).extrinsic_coefficient
        == 0
    )


def test_reward_none_has_no_specifications() -> None:
    assert make_options("score", run="r", reward="none").specs == ()


@pytest.mark.parametrize("bad", [{"workers": 0}, {"discount": 1.5}, {"reward": "gold"}, {"network": "huge"}])
def test_bad_values_are_one_clear_line(bad: dict[str, object]) -> None:
    flag = f"--{next(iter(bad))}"
    with pytest.raises(OnibusError, match=flag):
        make_options("score", run="r", **bad)


def test_spec_shares_take_coefficients() -> None:
    shares = [parse_spec_share(text, default_coefficient=0.4) for text in ("goals", "combat=0.05")]
    assert [(s.name, s.coefficient) for s in shares] == [("goals", 0.4), ("combat", 0.05)]
    with pytest.raises(OnibusError, match="not a number"):
        parse_spec_share("goals=much", 0.4)


def test_options_are_kept_with_the_run(tmp_path: Path) -> None:
    options = make_options("score", run="r", seed=5)
    save_options(options, tmp_path / "r")
    assert load_options(tmp_path / "r") == options
    with pytest.raises(OnibusError, match="no run"):
        load_options(tmp_path / "other")
    (tmp_path / "r" / "options.json").write_text("{")
    with pytest.raises(OnibusError, match="cannot be read"):
        load_options(tmp_path / "r")
