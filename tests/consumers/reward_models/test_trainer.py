"""The trainer as a plain object: when a version is due, and that its bits follow from log and seed alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from onibus.consumers.reward_models.character_cnn import PUBLISHED, helpful_probability, to_bytes, to_rows
from onibus.consumers.reward_models.classification import FITTED, Classification
from onibus.consumers.reward_models.model_file import ModelFile, ModelFileError, read_model_file
from onibus.consumers.reward_models.sampling import HIDDEN, mini_batches, uniform_batches, with_hidden_bytes
from onibus.consumers.reward_models.schedule import MOST_IDLE, STEPS_PER_VERSION, annotations_per_version
from onibus.consumers.reward_models.trainer import (
    RewardTrainer,
)
from onibus.consumers.reward_models.unseen import classified_figures
from onibus.consumers.reward_models.unseen import told as told_of
from onibus.infra.errors import OnibusError
from onibus.schemas.records import Annotation, Origin, Verdict
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    MODEL,
    SPEC_ID,
    TEXTS,
    annotation,
    verdict_of,
)

LOG = [annotation(text) for text in TEXTS[:16]]


def feed(trainer: RewardTrainer, log: Sequence[Annotation], first_offset: int = 0) -> list[bytes]:
    """Feed partition 0; the files of the versions made on the way."""
    files = []
    for offset, one in enumerate(log, first_offset):
        trainer.see(0, offset, one)
        if trainer.is_due():
            version = trainer.train()
            assert version is not None
            files.append(version.file.to_bytes())
    return files


def test_two_trainings_from_the_same_log_are_bit_identical_and_another_seeds_are_not() -> None:
    first = feed(RewardTrainer(MODEL, SPEC_ID, 7), LOG)
    assert len(first) > 2
    assert feed(RewardTrainer(MODEL, SPEC_ID, 7), LOG) == first
    assert feed(RewardTrainer(MODEL, SPEC_ID, 8), LOG)[0] != first[0]


def test_a_resumed_training_goes_on_with_the_same_bits_as_one_that_never_stopped() -> None:
    unbroken = feed(RewardTrainer(MODEL, SPEC_ID, 7), LOG)
    stopped_after = 1
    file = read_model_file(unbroken[stopped_after])
    resumed = RewardTrainer(MODEL, SPEC_ID, 7, file)
    assert resumed.version == 2
    assert feed(resumed, LOG) == unbroken[stopped_after + 1 :]


def test_dropout_falls_alike_in_every_training_and_not_in_judging() -> None:
    def published(file: ModelFile | None = None) -> RewardTrainer:
        return RewardTrainer(MODEL, SPEC_ID, 7, file, objective=Classification(network=PUBLISHED))

    unbroken = feed(published(), LOG[:9])
    torch.rand(3)  # whatever else draws random numbers meanwhile
    assert len(unbroken) == 2
    assert feed(published(), LOG[:9]) == unbroken
    resumed = published(read_model_file(unbroken[0]))
    assert feed(resumed, LOG[:9]) == unbroken[1:]
    rows = to_rows([to_bytes(text) for text in TEXTS])
    assert (
        helpful_probability(resumed.network, rows).tolist()
        == helpful_probability(resumed.network, rows).tolist()
    )


@pytest.mark.slow
def test_batches_of_ever_other_lengths_leave_nothing_in_memory() -> None:
    program = """
import psutil
from onibus.consumers.reward_models.schedule import MOST_IDLE, STEPS_PER_VERSION, annotations_per_version
from onibus.consumers.reward_models.trainer import RewardTrainer
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_ID, TEXTS, annotation, verdict_of
trainer = RewardTrainer(MODEL, SPEC_ID, 7)
for number in range(200):
    text = TEXTS[number % len(TEXTS)]
    trainer.see(0, number, annotation(text + f" {number}." * (number % 30), verdict_of(text)))
held = []
for _ in range(8):
    trainer.train()
    held.append(psutil.Process().memory_info().rss)
print((held[-1] - held[1]) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 16  # MiB; 60 where oneDNN keeps a program for each length


def test_an_interrupted_version_is_none() -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    for offset, one in enumerate(LOG[:8]):
        trainer.see(0, offset, one)
    answers = iter([True, True, False])
    assert trainer.train(keep_going=lambda: next(answers)) is None
    assert trainer.version == 0


@pytest.mark.parametrize(
    "log",
    [
        [],
        [annotation(TEXTS[0])],
        [annotation(text) for text in TEXTS if verdict_of(text) is Verdict.UNHELPFUL],
        [annotation(text, Verdict.HELPFUL) for text in TEXTS],
        [annotation(text, Verdict.UNSURE) for text in TEXTS],
        [*LOG[:2], annotation(TEXTS[0], origin=Origin.WITHDRAWAL)],
    ],
    ids=["nothing", "one label", "unhelpful only", "helpful only", "unsure only", "withdrawn"],
)
def test_without_both_classes_no_version_is_due(log: list[Annotation]) -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    for offset, one in enumerate(log):
        trainer.see(0, offset, one)
    assert not trainer.is_due(quiet=True)


def test_two_labels_of_two_classes_make_a_version_only_when_nothing_more_comes() -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    for offset, one in enumerate(LOG[:2]):
        trainer.see(0, offset, one)
    assert not trainer.is_due()
    assert trainer.is_due(quiet=True)
    assert trainer.train() is not None
    assert not trainer.is_due(quiet=True), "nothing new"


def test_records_of_other_specifications_move_the_offsets_and_nothing_else() -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    trainer.see(3, 41, None)
    assert trainer.offsets == {3: 42}
    assert len(trainer.objective.data) == 0


@pytest.mark.parametrize(
    ("seen", "wanted"), [(0, 4), (31, 4), (80, 10), (2_048, 256), (24_999, 512), (25_000, 8_192)]
)
def test_how_many_annotations_a_version_waits_for(seen: int, wanted: int) -> None:
    assert annotations_per_version(seen) == wanted


def test_a_flipped_label_flips_the_judgement() -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    feed(trainer, LOG)
    text = next(t for t in TEXTS if verdict_of(t) is Verdict.HELPFUL)
    rows = to_rows([to_bytes(text)])
    before = helpful_probability(trainer.network, rows)[0]
    flipped = [
        annotation(one.texts[0], Verdict.UNHELPFUL, Origin.HUMAN) for one in LOG if one.texts[0] == text
    ]
    trainer.see(0, len(LOG), flipped[0])
    for number in range(6):
        trainer.see(0, len(LOG) + 1 + number, annotation(TEXTS[20 + number]))
        trainer.train()
    assert before > 0.5 > helpful_probability(trainer.network, rows)[0]


def test_metrics_tell_loss_and_classes_and_how_new_captions_were_judged() -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    feed(trainer, LOG[:8])
    made, tested = trainer.version, TEXTS[8:20]
    for offset, text in enumerate(tested, 8):
        trainer.see(0, offset, annotation(text))
    trainer.see(0, 20, annotation("who knows", Verdict.UNSURE))
    trainer.see(0, 21, annotation(TEXTS[0], Verdict.UNHELPFUL, Origin.HUMAN))  # not new
    probability = helpful_probability(trainer.network, to_rows([to_bytes(text) for text in tested]))
    version = trainer.train()
    assert version is not None
    told = version.metrics
    assert told["helpful"] + told["unhelpful"] + told["unsure"] == 21 == told["labels"]
    assert told["loss"] > 0
    assert told["newest_label_age_seconds"] > 0
    assert version.file.provenance.gradient_steps == STEPS_PER_VERSION * (made + 1)
    true = np.array([verdict_of(text) is Verdict.HELPFUL for text in tested])
    newest = slice(int(told["held_out"]) - len(tested), None)
    assert newest.start >= 0
    assert [p for p, _ in trainer.objective._unseen][newest] == pytest.approx(probability.tolist())  # type: ignore[attr-defined]
    assert told["held_out_positive"] >= true.sum()


def test_a_label_that_was_restored_tests_nothing() -> None:
    file = read_model_file(feed(RewardTrainer(MODEL, SPEC_ID, 7), LOG)[0])
    resumed = RewardTrainer(MODEL, SPEC_ID, 7, file)
    for offset, one in enumerate(LOG[:4]):
        resumed.see(0, offset, one)
    version = resumed.train()
    assert version is not None
    assert "held_out" not in version.metrics


def test_figures_of_classes_are_the_textbooks() -> None:
    probability, true = np.array([0.9, 0.8, 0.2, 0.1, 0.7]), np.array([True, False, True, False, True])
    figures = classified_figures(probability, true, 0.5)
    assert figures == pytest.approx(
        {
            "held_out": 5, "held_out_positive": 3, "held_out_accuracy": 3 / 5, "held_out_precision": 2 / 3,
            "held_out_recall": 2 / 3, "held_out_balanced_accuracy": (2 / 3 + 1 / 2) / 2,
            "held_out_brier": (0.01 + 0.64 + 0.64 + 0.01 + 0.09) / 5,
        }
    )  # fmt: skip
    assert "balanced accuracy 58%, precision 67%, recall 67%; 3 of 5 helpful" in told_of(figures)
    nothing = classified_figures(np.array([0.1]), np.array([False]), 0.5)
    assert "0 of 1 helpful" in told_of(nothing)


def test_training_goes_on_without_new_labels_until_the_model_says_what_they_say() -> None:
    texts = [*HELPFUL_TEXTS[:3], *(f"You see here {number} gold pieces." for number in range(150))]
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    for offset, text in enumerate(texts):
        trainer.see(0, offset, annotation(text))
    while trainer.is_due(quiet=True):
        assert trainer.train() is not None
    assert 1 < trainer.version <= 1 + MOST_IDLE
    probability = helpful_probability(trainer.network, to_rows([to_bytes(text) for text in texts]))
    assert (np.mean(probability[:3] > 0.5) + np.mean(probability[3:] < 0.5)) / 2 >= FITTED


def test_what_can_never_be_learned_is_not_tried_for_ever() -> None:
    trainer = RewardTrainer(MODEL, SPEC_ID, 0)
    same = "x" * 256  # a network sees no further
    for offset in range(8):
        verdict = Verdict.HELPFUL if offset % 2 else Verdict.UNHELPFUL
        trainer.see(0, offset, annotation(f"{same}{offset}", verdict))
    while trainer.is_due(quiet=True):
        trainer.train()
    assert trainer.version == 1 + MOST_IDLE


@pytest.mark.parametrize(("seed", "spec_id", "word"), [(1, SPEC_ID, "seed"), (0, bytes(8), "spec id")])
def test_another_seed_or_specification_does_not_go_on_with_a_model(
    seed: int, spec_id: bytes, word: str
) -> None:
    (data, *_) = feed(RewardTrainer(MODEL, SPEC_ID, 0), LOG[:4])
    with pytest.raises(OnibusError, match=word):
        RewardTrainer(MODEL, spec_id, seed, read_model_file(data))


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"PK\x03\x04" + bytes(500)])
def test_what_is_no_model_file_is_named_so(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        read_model_file(data)


@pytest.mark.parametrize(
    ("decided", "total", "size"),
    [(1, 2, 2), (1, 1_000, 32), (500, 1_000, 32), (999, 1_000, 32), (30, 8_000, 62), (9_000, 40_000, 256)],
)
def test_each_batch_of_pairs_has_its_share_of_the_rarer_kind(decided: int, total: int, size: int) -> None:
    classes = np.arange(total) < decided
    for rows in mini_batches(classes, steps=3, seed=5):
        assert len(rows) == size
        share = classes[rows.numpy()].mean()
        assert 0.25 <= share <= 0.75


@pytest.mark.parametrize(("total", "size"), [(2, 2), (1_000, 32), (8_000, 62), (40_000, 256)])
def test_captions_are_drawn_uniformly_each_once_before_any_comes_again(total: int, size: int) -> None:
    steps = -(-2 * total // size)
    drawn = np.concatenate(
        [rows.numpy() for rows in uniform_batches(total, steps, torch.Generator().manual_seed(0))]
    )
    assert len(drawn) == steps * size
    assert sorted(drawn[:total]) == sorted(drawn[total : 2 * total]) == list(range(total))


def test_a_fifth_of_the_bytes_is_hidden_and_nothing_after_the_end() -> None:
    captions = torch.zeros((64, 256), dtype=torch.uint8)
    captions[:, :100] = 65
    seen = with_hidden_bytes(captions, 0.2, torch.Generator().manual_seed(0))
    assert set(seen[:, :100].unique().tolist()) == {65, HIDDEN}
    assert float((seen[:, :100] == HIDDEN).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert not seen[:, 100:].any()
