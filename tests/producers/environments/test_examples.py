"""The examples of ``infra/examples`` without a bus: what they say, what their specs think of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import onibus
from onibus.consumers.language_models.rules import RuleJudge
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.examples import key_and_door, minigrid_door_key
from onibus.producers.environments.playback import play_again
from onibus.producers.environments.tasks import registered_task
from tests.producers.environments.test_caption_wrapper import Bus

EXAMPLES = Path(key_and_door.__file__).parent
DOOR_KEY = f"minigrid-doorkey-{minigrid_door_key.SIZES[0]}"


def heard(task: str, steps: int) -> tuple[Counter[str], Bus]:
    """What a random player hears, and what is published; every episode is then played again."""
    found, bus = registered_task(task), Bus()
    assert found is not None
    environment = onibus.CaptionWrapper(found.make(), found.captioner, task=found, seed=1, bus=lambda: bus)
    actions = np.random.default_rng(0)
    environment.reset()
    for _ in range(steps):
        if any(environment.step(int(actions.integers(environment.action_space.n)))[2:4]):  # type: ignore[attr-defined]
            environment.reset()
    for record in bus.episodes[:3]:
        assert len(list(play_again(record))) == record.steps
    return Counter(text for text, _ in bus.captions), bus


@pytest.mark.parametrize(
    ("task", "spec", "helpful", "unhelpful"),
    [
        ("key-and-door", "key-and-door", "A small brass key lies here.", "The door is locked."),
        (DOOR_KEY, "minigrid-door-key", "You pick up the key.", "You see a key."),
    ],
)
def test_random_play_hears_what_its_spec_judges(task: str, spec: str, helpful: str, unhelpful: str) -> None:
    captions, _ = heard(task, 6000)
    assert captions[helpful]
    assert captions[unhelpful]
    assert len(captions) <= 12
    rules = load_spec_file(str(EXAMPLES / f"{spec}.toml")).rules
    assert rules is not None
    judge = RuleJudge(rules)
    assert judge.judge(helpful)[0] is onibus.Verdict.HELPFUL
    assert judge.judge(unhelpful)[0] is onibus.Verdict.UNHELPFUL
    registered = registered_task(task)
    assert registered is not None
    assert registered.spec == spec


def test_a_door_key_that_is_solved_tells_of_every_step() -> None:
    """Random play comes through a 5x5 room now and then."""
    captions, bus = heard(DOOR_KEY, 20_000)
    assert any(record.extrinsic_return > 0 for record in bus.episodes)
    for said in ("You unlock the door with the key, and it opens.", "You reach the green goal."):
        assert captions[said], captions
