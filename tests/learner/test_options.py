"""Options of a run: defaults by task, what is refused, what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onibus.consumers.reward_models.score_scale import ScoreScale
from onibus.infra.errors import OnibusError
from onibus.learner.option_groups import parse_spec_share
from onibus.learner.options import LearnOptions, load_options, make_options, resumed_options, save_options
from onibus.learner.rewards.score_to_reward import shape_of
from onibus.learner.run_environment import environment_for
from onibus.producers.nethack.environment import NetHackEnvironment


@pytest.mark.parametrize(
    ("task", "extrinsic", "specification", "coefficient"),
    [
        ("score", 0.1, "goals", 0.4),
        ("oracle", 10.0, "goals", 0.4),
        ("staircase-level-3", 10.0, "goals", 0.4),
        ("oracle-sober-continual", 10.0, "goals", 0.4),
        ("scout", 0.1, "goals", 0.4),
        ("nle-gold", 0.1, "goals", 0.4),
        ("nle-staircase", 10.0, "goals", 0.4),
        ("keyroom-s5", 1.0, "keys-and-doors", 0.5),
    ],
)
def test_defaults_follow_the_task(
    task: str, extrinsic: float, specification: str, coefficient: float
) -> None:
    options = make_options(task, run="r")
    assert options.extrinsic_coefficient == extrinsic
    assert [(s.name, s.coefficient) for s in options.specs] == [(specification, coefficient)]


def test_nethack_is_learned_on_cpus_as_in_the_results_and_otherwise_as_published() -> None:
    on_cpus = make_options("score", run="r")
    assert (on_cpus.network, on_cpus.epochs, on_cpus.discount) == ("medium", 3, 0.999)
    assert on_cpus.acts_locally
    for given in ({"network": "full"}, {"device": "gpu"}):
        options = make_options("score", run="r", **given)
        assert (options.epochs, options.discount, options.learning_rate) == (1, 0.99, 1e-4)
        assert options.network == given.get("network", "small")
    assert make_options("score", run="r", network="small", discount=0.9).discount == 0.9
    keyroom = make_options("keyroom-s5", run="r")
    assert (keyroom.network, keyroom.epochs, keyroom.discount) == ("small", 1, 0.99)


@pytest.mark.parametrize(
    ("task", "actions", "played"),
    [("score", "oni", 28), ("staircase", "oni", 28), ("nle-score", "nle", 23), ("keyroom-s5", None, 10)],
)
def test_a_run_has_the_actions_of_its_task_and_keeps_them(
    task: str, actions: str | None, played: int, tmp_path: Path
) -> None:
    options = make_options(task, run="r")
    assert (options.actions, options.played) == (actions, task)
    save_options(options, tmp_path)
    assert load_options(tmp_path) == options
    assert environment_of(options).action_space.n == played  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("task", "actions"), [("score", 23), ("staircase-level-3", 23), ("oracle", 23), ("keyroom-s5", 10)]
)
def test_a_run_from_before_the_published_tasks_plays_on_as_it_began(
    task: str, actions: int, tmp_path: Path
) -> None:
    """Its options have no actions; the weights are of 23."""
    kept = json.loads(make_options(task, run="old").model_dump_json(exclude={"actions", "character"}))
    (tmp_path / "options.json").write_text(json.dumps(kept))
    options = load_options(tmp_path)
    options = resumed_options(options, task=task)  # by the flags that it was started with
    assert options.task == task
    environment = environment_of(options)
    assert environment.action_space.n == actions  # type: ignore[attr-defined]
    assert environment.task == ("keyroom-s5" if task == "keyroom-s5" else f"nle-{task}")
    environment.close()


def test_characters_are_dealt_out_over_the_environments_of_a_run() -> None:
    options = make_options("score", run="r", actions="nle", character="val-hum-neu-fem,sam-hum-law-mal")
    dealt = [environment_of(options, index).character for index in range(3)]
    assert dealt == ["val-hum-neu-fem", "sam-hum-law-mal", "val-hum-neu-fem"]


def environment_of(options: LearnOptions, index: int = 0) -> NetHackEnvironment:
    """What a rollout worker of the run makes."""
    return environment_for(options, worker=0, environment=index, seed=1, bus=lambda: None)


def test_what_is_given_wins_over_the_tasks_default() -> None:
    assert (
        make_options("score", run="r", extrinsic_coefficient=0.0, learning_rate=None).extrinsic_coefficient
        == 0
    )


def test_a_seed_that_is_too_large_is_refused() -> None:
    with pytest.raises(OnibusError, match="--seed"):
        make_options("score", run="r", seed=10**20)


def test_reward_none_has_no_specifications() -> None:
    assert make_options("score", run="r", reward="none").specs == ()


@pytest.mark.parametrize("bad", [{"workers": 0}, {"discount": 1.5}, {"reward": "gold"}, {"network": "huge"}])
def test_bad_values_are_one_clear_line(bad: dict[str, object]) -> None:
    flag = f"--{next(iter(bad))}"
    with pytest.raises(OnibusError, match=flag):
        make_options("score", run="r", **bad)


def test_a_captioner_is_one_that_there_is_and_nethacks_alone() -> None:
    assert make_options("score", run="r").captioner == "message"
    assert make_options("keyroom-s5", run="r", captioner="mine:say").captioner == "mine:say"
    with pytest.raises(OnibusError, match="there is no captioner 'mesage'; give message"):
        make_options("score", run="r", captioner="mesage")
    own = ("tests.producers.environments.rooms",)
    with pytest.raises(OnibusError, match="--captioner is for NetHack's tasks; leave it out for counting"):
        make_options("counting", run="r", imports=own, captioner="message-and-changes")


def test_spec_shares_take_coefficients() -> None:
    shares = [parse_spec_share(text, default_coefficient=0.4) for text in ("goals", "combat=0.05")]
    assert [(s.name, s.coefficient) for s in shares] == [("goals", 0.4), ("combat", 0.05)]
    with pytest.raises(OnibusError, match="not a number"):
        parse_spec_share("goals=much", 0.4)
    with pytest.raises(OnibusError, match="names have no"):
        parse_spec_share("goals=0.4=2", 0.4)


def test_options_are_kept_with_the_run(tmp_path: Path) -> None:
    options = make_options("score", run="r", seed=5)
    save_options(options, tmp_path / "r")
    assert load_options(tmp_path / "r") == options
    with pytest.raises(OnibusError, match="no run"):
        load_options(tmp_path / "other")
    (tmp_path / "r" / "options.json").write_text("{")
    with pytest.raises(OnibusError, match="cannot be read"):
        load_options(tmp_path / "r")


def test_a_quantile_is_for_rankings_and_in_place_of_a_threshold() -> None:
    assert make_options("score", run="r", reward="ranking", reward_quantile=0.5).reward_quantile == 0.5
    for given in (
        {"reward": "classification", "reward_quantile": 0.5},
        {"reward": "ranking", "reward_quantile": 1.5},
        {"reward": "motif", "motif_model": "m", "reward_quantile": 0.5, "reward_threshold": 1.0},
    ):
        with pytest.raises(OnibusError, match="quantile"):
            make_options("score", run="r", **given)


def test_the_shape_of_a_ranking_follows_the_quantile_or_the_threshold() -> None:
    scores = np.arange(101, dtype=np.float32)
    scale = ScoreScale.of(scores)
    for given, paid in (({"reward_quantile": 0.9}, 10), ({"reward_threshold": 1.0}, 21), ({}, 50)):
        shape = shape_of(make_options("score", run="r", reward="ranking", **given))
        assert np.count_nonzero(shape(scores, scale)) == paid
