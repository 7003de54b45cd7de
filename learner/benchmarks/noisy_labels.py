"""What models learn from a judge that errs: the published network on its schedule, and our default.

Messages of random play are put together to many different captions, as the game does, with other inventory
letters and numbers. The keyword rules judge each, and a share of the verdicts is turned round. Models learn
online from these, and are held against the rules on captions made of other messages.
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.labels.agreement import roc_auc
from onibus.consumers.language_models.rules import RuleJudge
from onibus.consumers.reward_models.character_cnn import (
    MAX_OVER_TIME,
    PUBLISHED,
    NetworkDesign,
    helpful_probability,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.classification import Classification
from onibus.consumers.reward_models.schedule import (
    BATCHES_PER_SECOND,
    MANY,
    OWN,
    Published,
    Schedule,
)
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.consumers.reward_models.unseen import classified_figures, is_held_out
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.devices import Device, torch_device
from onibus.infra.reward_kinds import P_HELPFUL_THRESHOLD
from onibus.learner.benchmarks.result import Figure
from onibus.producers.nethack.messages import SEPARATOR
from onibus.producers.nethack.random_play import random_captions
from onibus.schemas.ids import caption_id
from onibus.schemas.records import Annotation, Origin, Verdict

TASK, SPEC, SEED = "score", "goals", 0
FLIPPED = 0.1
"""Share of the verdicts that are turned round."""
TESTED = 4_000
_MOST_MESSAGES = 3
_SPEC_ID = b"benchmrk"
_FIGURES = ("balanced_accuracy", "precision", "recall")


def measure(play_steps: int, labels: int, late_steps: int, device: Device) -> list[Figure]:
    """Balanced accuracy, precision, recall and area under the ROC curve of both, against the clean verdicts.

    Args:
        play_steps: random steps of the full game, whose messages captions are made of.
        labels: noisy ones, each of another caption.
        late_steps: of the published schedule after 25,000 labels.
        device: that trains.

    Raises:
        OnibusError: there is no GPU.
    """
    where, file = torch_device(device), load_spec_file(SPEC)
    assert file.rules is not None
    judge, played = RuleJudge(file.rules), random_captions([TASK], play_steps, SEED)
    kept = {text for text in played if is_held_out(caption_id(text), SEED)}
    learned = _captions([text for text in played if text not in kept], labels)
    tested = _captions(sorted(kept), TESTED)
    clean = np.array([judge.judge(text)[0] is Verdict.HELPFUL for text in tested])
    log = [*_annotations(learned, judge)]
    figures = [
        Figure("labels, one in ten turned round", len(log), "labels"),
        Figure("held-out captions", len(tested), "captions"),
        Figure("of them helpful", float(np.count_nonzero(clean)), "captions"),
    ]
    for name, network, schedule in (
        ("published network and schedule", PUBLISHED, Published()),
        ("our default", MAX_OVER_TIME, OWN),
    ):
        began = time.monotonic()
        trainer = _trained(log, network, schedule, late_steps, where)
        probability = helpful_probability(trainer.network, to_rows([to_bytes(text) for text in tested]))
        figures += [
            *_figures(name, probability.astype(np.float64), clean),
            Figure(f"{name}: gradient steps", trainer.gradient_steps, "steps"),
            Figure(f"{name}: time", time.monotonic() - began, "s"),
        ]
    return figures


def _figures(name: str, probability: NDArray[np.float64], clean: NDArray[np.bool_]) -> Iterator[Figure]:
    told = classified_figures(probability, clean, P_HELPFUL_THRESHOLD)
    for figure in _FIGURES:
        value = told.get(f"held_out_{figure}", float("nan"))
        yield Figure(f"{name}: {figure.replace('_', ' ')}", value, "share")
    auc = roc_auc(probability, clean)
    yield Figure(f"{name}: area under the ROC curve", float("nan") if auc is None else auc, "share")


def _trained(
    log: Sequence[Annotation], network: NetworkDesign, schedule: Schedule, late_steps: int, device: str
) -> RewardTrainer:
    """A model that learned online, each version made when it was due."""
    trainer = RewardTrainer(
        "bench", _SPEC_ID, SEED, objective=Classification(network=network), device=device, schedule=schedule
    )
    late_seconds = late_steps / BATCHES_PER_SECOND / max(1, len(log) - MANY)
    since = 0
    for offset, annotation in enumerate(log):
        trainer.see(0, offset, annotation)
        since += 1
        if trainer.is_due(seconds=since * late_seconds):
            trainer.train()
            since = 0
    while trainer.is_due(quiet=True):
        trainer.train()
    return trainer


def _captions(messages: Sequence[str], count: int) -> list[str]:
    """Different captions of one to three messages each, in the order in which they were drawn."""
    rng, found = random.Random(SEED), dict[str, None]()
    while len(found) < count:
        drawn = rng.choices(messages, k=rng.randint(1, _MOST_MESSAGES))
        found[SEPARATOR.join(_changed(text, rng) for text in drawn)] = None
    return list(found)


def _changed(message: str, rng: random.Random) -> str:
    """Another inventory letter at its start, and other digits elsewhere."""
    if message[1:4] == " - " and message[0].isalpha():
        message = rng.choice(string.ascii_letters) + message[1:]
    return "".join(rng.choice("123456789") if c.isdigit() else c for c in message)


def _annotations(captions: Sequence[str], judge: RuleJudge) -> Iterator[Annotation]:
    rng = random.Random(SEED)
    for number, text in enumerate(captions):
        helpful = (judge.judge(text)[0] is Verdict.HELPFUL) != (rng.random() < FLIPPED)
        verdict = Verdict.HELPFUL if helpful else Verdict.UNHELPFUL
        what = (_SPEC_ID, caption_id(text), (text,), verdict)
        yield Annotation.unasked(*what, Origin.RULES, "bench", number, number)
