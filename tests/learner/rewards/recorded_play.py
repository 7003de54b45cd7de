"""A recorded run: what random play of the real game brought about, and how the keyword rules judge it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.comparison_partners import ComparisonPartners, Partner
from onibus.consumers.language_models.rules import RuleJudge
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.producers.nethack.messages import CaptionTable, MessageListener
from onibus.producers.nethack.seeding import episode_seeds, reset_with_seeds
from onibus.producers.nethack.tasks import make_task
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import Annotation
from tests.consumers.reward_models.annotation_logs import annotation


@dataclass(frozen=True)
class RecordedPlay:
    """Look-up ids and counts of each step, int64 (n,); captions by their ids, in order of first sight."""

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    texts: dict[int, str]


@cache
def recorded_play(steps: int, task: str = "score") -> RecordedPlay:
    """So many steps of random play; the same for the same arguments."""
    env = make_task(task)
    said, table = MessageListener(env).said, CaptionTable()
    ids, counts = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
    texts: dict[int, str] = {}
    heard: dict[int, int] = {}
    actions = np.random.default_rng(0).integers(env.action_space.n, size=steps)  # type: ignore[attr-defined]
    episode, over = 0, True
    for step, action in enumerate(actions):
        if over:
            reset_with_seeds(env, episode_seeds(0, 0, 0, episode))
            episode += 1
            said.clear()
            heard = {}
        _, _, terminated, truncated, _ = env.step(int(action))
        over = terminated or truncated
        caption = table.caption(said)
        said.clear()
        if caption is not None:
            heard[caption.lookup] = heard.get(caption.lookup, 0) + 1
            ids[step], counts[step] = caption.lookup, heard[caption.lookup]
            texts.setdefault(caption.lookup, caption.text)
    env.close()  # type: ignore[no-untyped-call]
    return RecordedPlay(ids, counts, texts)


def comparisons(play: RecordedPlay, spec: str = "goals", most: int = 8) -> Iterator[Annotation]:
    """What annotators would write with the keyword rules: each caption compared with earlier ones."""
    rules = load_spec_file(spec).rules
    assert rules is not None
    judge, pool = RuleJudge(rules), ComparisonPartners()
    for number, text in enumerate(play.texts.values()):
        own = caption_id(text)
        pool.add([Partner(own, text, 0, number)])
        for pair in pool.pairs(own, text, most):
            verdict, _ = judge.compare(pair.first, pair.second)
            yield replace(
                annotation(text, verdict), subject_id=pair.subject_id, texts=(pair.first, pair.second)
            )


def helpful_ids(play: RecordedPlay, spec: str = "goals") -> set[int]:
    """The captions that the rules call helpful."""
    rules = load_spec_file(spec).rules
    assert rules is not None
    judge = RuleJudge(rules)
    return {
        lookup_id(caption_id(text)) for text in play.texts.values() if judge.judge(text)[0].value == "helpful"
    }
