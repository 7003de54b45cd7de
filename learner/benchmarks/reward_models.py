"""Reward models: how well they learn, how fast the trainer is beside bare training, what a swap costs."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.comparison_partners import ComparisonPartners, Partner
from onibus.consumers.language_models.rules import RuleJudge
from onibus.consumers.reward_models.character_cnn import MAX_OVER_TIME, PUBLISHED, NetworkDesign
from onibus.consumers.reward_models.loop import TrainerProcess
from onibus.consumers.reward_models.trainer import RewardTrainer, objective_of
from onibus.consumers.reward_models.transfer import WholeFile, model_name
from onibus.consumers.reward_models.unseen import is_held_out
from onibus.consumers.specs.spec_file import load_spec_file, publish_specs
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.benchmarks.result import Figure
from onibus.learner.rewards.formulas import ModelReward, SpecReward
from onibus.learner.rewards.score_to_reward import AboveThreshold, NormalisedAboveThreshold
from onibus.learner.rewards.scores import ModelScores
from onibus.producers.nethack.random_play import random_captions
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, AnnotationSpec, Origin, Verdict

TASK = "score"
SPEC = "goals"
COMPARISONS = 8
SEED = 0
TRANSITIONS = 1_024
LONGEST_DELAY_MS = 5.0
_PAUSE_SECONDS = 0.001
"""Between two batches: the learner does other things, too."""


@dataclass(frozen=True, slots=True)
class _Log:
    """Annotations of one specification, as annotators would write them."""

    spec: AnnotationSpec
    annotations: Sequence[Annotation]

    @property
    def spec_id(self) -> bytes:
        return ids.spec_id(self.spec)


def measure_accuracy(play_steps: int, versions: int) -> list[Figure]:
    """Held-out accuracy on the rules' verdicts and comparisons of the captions of random play.

    Args:
        play_steps: random steps of the full game.
        versions: trained on all of the annotations; each is 32 gradient steps.
    """
    captions = random_captions([TASK], play_steps, SEED)
    figures = [Figure(f"different captions in {play_steps:,} random steps", len(captions), "captions")]
    verdicts, comparisons = _verdicts(captions), _comparisons(captions)
    told, published = _trained(verdicts, versions), _trained(verdicts, versions, PUBLISHED)
    ranked = _trained(comparisons, versions)
    judged, ordered = "held-out captions judged as the rules do", "held-out pairs ordered as the rules do"
    return [
        *figures,
        Figure("held-out captions", told["held_out"], "captions"),
        Figure("of them helpful", told["held_out_positive"], "captions"),
        Figure(
            "classification: balanced accuracy", told.get("held_out_balanced_accuracy", math.nan), "share"
        ),
        Figure.at_least(f"classification: {judged}", told["held_out_accuracy"], "share", 0.97),
        Figure("classification: Brier score", told["held_out_brier"], ""),
        Figure(f"the published network: {judged}", published["held_out_accuracy"], "share"),
        Figure("the published network: Brier score", published["held_out_brier"], ""),
        Figure.at_least(f"ranking: {ordered}", ranked["held_out_accuracy"], "share", 0.95),
        Figure("ranking: Brier score", ranked["held_out_brier"], ""),
    ]


def measure_trainer(settings: Settings, count: int) -> list[Figure]:
    """Gradient steps a second of the trainer on Kafka, publishing included, beside the same loop in memory.

    Args:
        settings: a broker with topics.
        count: annotations.
    """
    captions = [f"You see here {n} gold pieces." if n % 3 else f"It's a wall {n}." for n in range(count)]
    log = _verdicts(captions)
    _publish(settings, log)
    bare, ours = [], []
    for seed in range(3):
        bare.append(_steps_in_memory(log, seed))
        # A name of its own for each turn: the trainer goes on from a model that it finds.
        ours.append(_steps_on_kafka(settings, f"{log.spec.name}-{seed}", log, seed, bare[-1][0]))
    rates = [[steps / seconds for steps, seconds in side] for side in (bare, ours)]
    ratio = statistics.median(our / their for their, our in zip(*rates, strict=True))
    return [
        Figure("gradient steps a second in memory", statistics.median(rates[0]), "1/s"),
        Figure("gradient steps a second of the trainer", statistics.median(rates[1]), "1/s"),
        Figure.at_least("trainer ÷ in memory", ratio, "ratio", 0.9),
    ]


def measure_swap(captions: int, versions: int) -> list[Figure]:
    """How much longer a batch of 1,024 transitions takes while a version is swapped in.

    The longest batch of each swap counts, and of these the median: what a swap costs comes up in every
    one, what the machine does besides (in as long a time without swaps, too) in some.
    """
    figures = []
    for ranks in (False, True):
        shape = NormalisedAboveThreshold(0.0) if ranks else AboveThreshold(0.5)
        scores, files = ModelScores(shape, ranks=ranks), _two_versions(ranks)
        known = {ids.lookup_id(ids.caption_id(f"caption {n}")): f"caption {n}" for n in range(captions)}
        scores.add(known)
        scores.take(_SPEC_ID, files[0], 0.0)
        reward = ModelReward(scores, count_beta=3.0)
        reward.specs = (SpecReward(_SPEC_ID, 0.5),)
        name = "ranking" if ranks else "classification"
        swaps = [
            _batches_during(partial(scores.take, _SPEC_ID, files[n % 2], 0.0), reward, [*known])
            for n in range(versions)
        ]
        quiet = [_batches_during(partial(time.sleep, _total_seconds(swap)), reward, [*known])
                 for swap in swaps]  # fmt: skip
        usual = float(np.median(np.concatenate(quiet)))
        longest, longest_quiet = ([float(np.max(batches)) for batches in all_of] for all_of in (swaps, quiet))
        delay = statistics.median(longest) - usual
        figures += [
            Figure(f"{name}: a batch, median", usual, "ms"),
            Figure(
                f"{name}: a batch while a version comes, median",
                float(np.median(np.concatenate(swaps))),
                "ms",
            ),
            Figure.at_most(
                f"{name}: longest delay of a batch by a swap, median of {versions}",
                delay,
                "ms",
                LONGEST_DELAY_MS,
            ),
            Figure(f"{name}: longest batch in all swaps", max(longest), "ms"),
            Figure(f"{name}: longest batch in as long without", max(longest_quiet), "ms"),
        ]
    return figures


_SPEC_ID = b"benchmrk"


def _batches_during(
    work: Callable[[], object], reward: ModelReward, captions: Sequence[int]
) -> NDArray[np.float64]:
    """Milliseconds of each batch, one after the other until ``work`` is done in another thread."""
    milliseconds: list[float] = []
    with ThreadPoolExecutor(1) as elsewhere:
        done = elsewhere.submit(work)
        rng = np.random.default_rng(SEED)
        batches = [rng.choice(captions, (TRANSITIONS // 32, 32)) for _ in range(16)]
        counts = rng.integers(1, 9, (TRANSITIONS // 32, 32))
        while not done.done():
            began = time.perf_counter_ns()
            reward(batches[len(milliseconds) % 16], counts)
            milliseconds.append((time.perf_counter_ns() - began) / 1e6)
            time.sleep(_PAUSE_SECONDS)
    return np.array(milliseconds)


def _total_seconds(batches: NDArray[np.float64]) -> float:
    """About how long it took to make them."""
    return float(np.sum(batches) / 1000 + _PAUSE_SECONDS * batches.size)


def _verdicts(captions: Sequence[str]) -> _Log:
    file = load_spec_file(SPEC)
    assert file.rules is not None
    judge = RuleJudge(file.rules)
    spec = file.for_rules()
    annotations = [
        _annotation(spec, (caption,), ids.caption_id(caption), judge.judge(caption)[0], number)
        for number, caption in enumerate(captions)
    ]
    return _Log(spec, annotations)


def _comparisons(captions: Sequence[str]) -> _Log:
    """Those that an annotator would make, each caption leading to eight."""
    file = load_spec_file(f"{SPEC}-pairs")
    assert file.rules is not None
    judge, spec, pool = RuleJudge(file.rules), file.for_rules(), ComparisonPartners()
    annotations: list[Annotation] = []
    for number, caption in enumerate(captions):
        caption_id = ids.caption_id(caption)
        pool.add([Partner(caption_id, caption, 0, number)])
        for pair in pool.pairs(caption_id, caption, COMPARISONS):
            verdict, _ = judge.compare(pair.first, pair.second)
            annotations.append(
                _annotation(spec, (pair.first, pair.second), pair.subject_id, verdict, len(annotations))
            )
    return _Log(spec, annotations)


def _annotation(
    spec: AnnotationSpec, texts: tuple[str, ...], subject: bytes, verdict: Verdict, number: int
) -> Annotation:
    return Annotation(
        spec_id=ids.spec_id(spec), subject_id=subject, texts=texts, verdict=verdict, origin=Origin.RULES,
        sources=(), prompt_hash=bytes(16), model=spec.model, model_revision=spec.model_revision, sampling={},
        raw_answer=verdict.value, reason="", tokens_in=0, tokens_out=0, latency_us=0, attempt=1,
        annotator="bench", observed_at=number, annotated_at=1_700_000_000_000_000 + number,
    )  # fmt: skip


def _trained(log: _Log, versions: int, network: NetworkDesign = MAX_OVER_TIME) -> dict[str, float]:
    objective = objective_of(log.spec.kind, network)
    trainer = RewardTrainer("bench", log.spec_id, SEED, objective=objective)
    kept = [a for a in log.annotations if any(is_held_out(ids.caption_id(t), SEED) for t in a.texts)]
    held_out = {a.subject_id for a in kept}
    for offset, annotation in enumerate(log.annotations):
        trainer.see(0, offset, None if annotation.subject_id in held_out else annotation)
    for _ in range(versions):
        trainer.train()
    objective.test(trainer.network, kept)
    return objective.figures()


def _steps_in_memory(log: _Log, seed: int) -> tuple[int, float]:
    """Gradient steps and seconds of a training on the log, each version made when it is due."""
    trainer = RewardTrainer("bench", log.spec_id, seed, kind=log.spec.kind)
    began = time.perf_counter()
    for offset, annotation in enumerate(log.annotations):
        trainer.see(0, offset, annotation)
        if trainer.is_due():
            trainer.train()
    return trainer.gradient_steps, time.perf_counter() - began


def _steps_on_kafka(settings: Settings, name: str, log: _Log, seed: int, enough: int) -> tuple[int, float]:
    """The same of a trainer that reads the log from the broker and publishes its versions."""
    process = TrainerProcess(settings, name, log.spec_id, seed, log.spec.kind)
    stopping = threading.Event()
    thread = threading.Thread(target=process.run, args=(stopping,))
    began = time.perf_counter()
    thread.start()
    while process.summary.gradient_steps < enough and thread.is_alive():
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    stopping.set()
    thread.join()
    return process.summary.gradient_steps, seconds


def _publish(settings: Settings, log: _Log) -> None:
    publish_specs(settings, [log.spec])
    topic = TopicNames(settings.topic_prefix).annotations
    with clients.producer(settings) as producer:
        for annotation in log.annotations:
            key = ids.label_key(annotation.spec_id, annotation.subject_id)
            producer.send(topic, key=key, value=codec.encode(annotation))
        producer.flush()


def _two_versions(ranks: bool) -> list[WholeFile]:
    captions = [f"caption {n}" for n in range(64)] + [f"You kill the newt {n}!" for n in range(16)]
    log = _comparisons(captions) if ranks else _verdicts(captions)
    trainer = RewardTrainer(model_name("bench", _SPEC_ID), _SPEC_ID, SEED, kind=log.spec.kind)
    for offset, annotation in enumerate(log.annotations):
        trainer.see(0, offset, annotation)
    files = []
    for number in (1, 2):
        version = trainer.train()
        assert version is not None
        data = version.file.to_bytes()
        files.append(WholeFile("bench", number, data, sha256(data).digest()))
    return files
