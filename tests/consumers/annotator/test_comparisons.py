"""Comparisons on the bus: two annotators, every pair judged once, all partitions joined in one graph."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from onibus.consumers.annotator import partners_reader
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, Label, Origin, Verdict
from tests.consumers.annotating import (
    annotator,
    caption_ends,
    committed_offsets,
    label_keys,
    publish,
    records,
    rules_specs,
)
from tests.consumers.replay.running import onibus
from tests.waiting import wait_until

TEXTS = [f"caption {n}" for n in range(60)] + [f"You see here a key, number {n}." for n in range(12)]


def annotations(settings: Settings) -> list[Annotation]:
    return [codec.decode(Annotation, record.value) for record in records(settings, "annotations")]


def about(settings: Settings, subject_id: bytes) -> list[Annotation]:
    return [one for one in annotations(settings) if one.subject_id == subject_id]


def wait_until_all_is_committed(settings: Settings) -> None:
    wait_until(
        lambda: committed_offsets(settings) == caption_ends(settings),
        60,
        "everything consumed and committed",
        interval=0.2,
    )


def connected(pairs: list[tuple[str, ...]]) -> bool:
    reached, before = {pairs[0][0]}, 0
    while len(reached) > before:
        before = len(reached)
        reached |= {text for pair in pairs for text in pair if reached & set(pair)}
    return reached == set(TEXTS)


def test_each_pair_is_judged_once_and_all_captions_are_connected(settings: Settings) -> None:
    specs, model = rules_specs("keys-and-doors-pairs")
    publish(settings, TEXTS[:40])
    with annotator(settings, "a1", specs, model), annotator(settings, "a2", specs, model):
        publish(settings, TEXTS[40:])
        wait_until_all_is_committed(settings)
    with annotator(settings, "a3", specs, model):  # a restart, and captions that come up again
        publish(settings, TEXTS)
        wait_until_all_is_committed(settings)
    found = annotations(settings)
    pairs = Counter(frozenset(a.texts) for a in found)
    assert max(pairs.values()) == 1
    assert set(label_keys(settings).values()) == {1}
    assert connected([a.texts for a in found])
    assert len(TEXTS) - 1 <= len(found) <= 4 * len(TEXTS)


@pytest.mark.slow
def test_captions_lead_to_their_comparisons_once_though_every_start_has_others_at_hand(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, model = rules_specs("keys-and-doors-pairs")
    monkeypatch.setattr(partners_reader, "NEWEST", 20)
    shuffled = list(TEXTS)
    for start in range(3):
        Random(start).shuffle(shuffled)
        publish(settings, shuffled)
        with (
            annotator(settings, f"a{2 * start}", specs, model),
            annotator(settings, f"a{2 * start + 1}", specs, model),
        ):
            wait_until_all_is_committed(settings)
    found = annotations(settings)
    assert max(Counter(frozenset(one.texts) for one in found).values()) == 1
    led = Counter(ids.leader_of(one.texts) for one in found)
    assert max(led.values()) == 4
    assert connected([one.texts for one in found])


def test_a_withdrawn_comparison_is_made_anew_when_its_caption_comes_up_again(settings: Settings) -> None:
    specs, model = rules_specs("keys-and-doors-pairs")
    publish(settings, TEXTS)
    with annotator(settings, "a1", specs, model):
        wait_until_all_is_committed(settings)
        subject = annotations(settings)[0].subject_id
        onibus(settings, "labels", "withdraw", subject.hex(), "--yes")

        def is_made_anew() -> bool:
            publish(settings, TEXTS)
            return len(about(settings, subject)) > 2

        wait_until(is_made_anew, 30, "the comparison made anew", interval=1)
    assert [one.origin for one in about(settings, subject)] == [
        Origin.RULES,
        Origin.WITHDRAWAL,
        Origin.RULES,
    ]


def test_labels_and_annotations_say_which_captions_were_compared_and_where_they_stand(
    settings: Settings,
) -> None:
    specs, model = rules_specs("keys-and-doors-pairs")
    (spec_id,) = specs
    publish(settings, TEXTS)
    with annotator(settings, "a1", specs, model) as running:
        wait_until_all_is_committed(settings)
        summary = running.stop()
    labels = {record.key: record for record in records(settings, "labels")}
    captions = {(r.partition, r.offset): r.key for r in records(settings, "captions")}
    for one in annotations(settings):
        first, second = (ids.caption_id(text) for text in one.texts)
        assert one.subject_id == ids.pair_id(first, second)
        record = labels[ids.label_key(spec_id, one.subject_id)]
        label = codec.decode(Label, record.value)
        assert label.verdict is one.verdict
        assert {captions[s.partition, s.offset] for s in one.sources} == {first, second}
        assert record.partition == label.caption_partition == one.sources[0].partition
        is_key = ["key" in text for text in one.texts]
        expected = {(True, False): Verdict.FIRST, (False, True): Verdict.SECOND}
        assert one.verdict is expected.get((is_key[0], is_key[1]), Verdict.TIE)
    assert summary.position_bias == pytest.approx(0, abs=0.35)
    assert "went to the caption shown first" in summary.line()


def test_verdicts_and_comparisons_side_by_side_in_one_annotator(settings: Settings) -> None:
    specs, model = rules_specs("keys-and-doors", "keys-and-doors-pairs")
    publish(settings, TEXTS)
    with annotator(settings, "a1", specs, model):
        wait_until_all_is_committed(settings)
    kinds = Counter(len(one.texts) for one in annotations(settings))
    assert kinds[1] == len(TEXTS)
    assert kinds[2] >= len(TEXTS) - 1
