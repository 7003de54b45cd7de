"""Dead letters: which are selected, what happens to each, and that nothing is ever sent twice."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from onibus.consumers.annotator.batch import VALUE_LEFT_OUT
from onibus.consumers.dead_letters import REDRIVE, Entry, Fate, Selection, entries, fate, redrive, with_marks
from onibus.consumers.language_models.base import Answer, Attempt, Progress, Question
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import codec, ids
from onibus.schemas.records import AnnotationSpec, DeadLetter, Label, Origin, Verdict
from tests.command import run_onibus, the_one_line
from tests.consumers.annotating import annotator, publish, records, wait_for_labels
from tests.waiting import wait_until

CAPTIONS, LETTERS = "t.captions", "t.dead-letters"
SPEC, OTHER = b"testspec", b"otherone"
KEY = ids.caption_id("x")
LETTER = DeadLetter(CAPTIONS, 1, 7, "annotator", "no verdict in 3 answers", 3, SPEC, KEY, b"v", 1_000)


# --- plain objects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "is_meant"),
    [
        (Selection(), True),
        (Selection(reason="No Verdict"), True),
        (Selection(reason="too long"), False),
        (Selection(since=1_000), True),
        (Selection(since=1_001), False),
        (Selection(until=1_001), True),
        (Selection(until=1_000), False),
        (Selection(spec_ids=frozenset([SPEC, OTHER])), True),
        (Selection(spec_ids=frozenset([OTHER])), False),
        (Selection(reason="verdict", since=5, spec_ids=frozenset([OTHER])), False),
    ],
)
def test_letters_are_chosen_by_reason_time_and_spec(selection: Selection, is_meant: bool) -> None:
    assert selection.holds(LETTER) is is_meant


def test_a_mark_says_when_its_letter_was_sent_again_and_is_not_a_letter() -> None:
    mark = DeadLetter(LETTERS, 0, 3, REDRIVE, "sent again", 1, SPEC, KEY, None, 5_000)
    found = [Entry(0, 3, LETTER), Entry(0, 4, replace(LETTER, failed_at=900)), Entry(0, 5, mark)]
    assert [(e.offset, e.redriven_at) for e in with_marks(found, LETTERS)] == [(4, None), (3, 5_000)]


@pytest.mark.parametrize(
    ("entry", "verdict", "expected"),
    [
        (Entry(0, 0, LETTER), Verdict.UNSURE, Fate.SEND),
        (Entry(0, 0, LETTER), None, Fate.SEND),
        (Entry(0, 0, LETTER), Verdict.HELPFUL, Fate.LABELLED),
        (Entry(0, 0, LETTER, redriven_at=1), Verdict.UNSURE, Fate.SENT),
        (Entry(0, 0, replace(LETTER, source_topic="t.labels")), None, Fate.NO_CAPTION),
        (Entry(0, 0, replace(LETTER, spec_id=None, original_key=None)), None, Fate.SEND),
        (
            Entry(0, 0, replace(LETTER, original_value=None, reason=f"long {VALUE_LEFT_OUT}")),
            None,
            Fate.LEFT_OUT,
        ),
    ],
)
def test_what_happens_to_a_letter(entry: Entry, verdict: Verdict | None, expected: Fate) -> None:
    assert fate(entry, CAPTIONS, lambda *_: verdict) is expected


# --- over the bus ---------------------------------------------------------------------------------------

TEXTS = [f"You kill {n} newts." for n in range(20)] + [f"You mumble {n} times." for n in range(6)]


class MoodyModel:
    """Cannot judge mumbling until it has recovered."""

    origin = Origin.LLM

    def __init__(self) -> None:
        self.well = threading.Event()

    async def check(self) -> None:
        """It can always be asked."""

    async def answer(self, question: Question) -> Answer:
        read = self.well.is_set() or "mumble" not in question.text
        verdict = Verdict.HELPFUL if read else None
        attempt = Attempt(verdict, "raw", "", bytes(16), 5, 2, 10, time.time_ns() // 1000)
        return Answer(question, verdict or Verdict.UNSURE, (attempt,), "" if read else "no verdict")

    def progress(self, question: Question) -> Progress:
        return Progress.SENT

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def specs() -> dict[bytes, AnnotationSpec]:
    spec = load_spec("goals", "moody")
    return {ids.spec_id(spec): spec}


def labels_in_force(settings: Settings) -> dict[bytes, Verdict]:
    found: dict[bytes, Verdict] = {}
    for record in records(settings, "labels"):
        if record.value is None:
            found.pop(record.key, None)
        else:
            found[record.key] = codec.decode(Label, record.value).verdict
    return found


def test_captions_that_were_given_up_are_judged_again_once_and_only_once(
    settings: Settings, specs: dict[bytes, AnnotationSpec], tmp_path: Path
) -> None:
    model = MoodyModel()
    publish(settings, TEXTS)
    with annotator(settings, specs=specs, model=model) as one:
        wait_for_labels(settings, len(TEXTS))
        assert Counter(labels_in_force(settings).values())[Verdict.UNSURE] == 6
        model.well.set()
        before = len(records(settings, "captions"))
        assert redrive(settings, Selection(), dry_run=True) == {Fate.SEND: 6}
        assert len(records(settings, "captions")) == before, "a dry run wrote something"
        assert redrive(settings, Selection(reason="too long")) == {}

        assert redrive(settings, Selection()) == {Fate.SEND: 6}
        wait_until(
            lambda: Counter(labels_in_force(settings).values()) == {Verdict.HELPFUL: len(TEXTS)},
            30,
            "the mumbling to be judged",
        )
        assert redrive(settings, Selection()) == {Fate.SENT: 6}
        assert len(records(settings, "captions")) == before + 6
        assert one.stop().labels == len(TEXTS) + 6
    shown = run_onibus(
        "dead-letters", "list", "--json", folder=tmp_path, environment=environment_of(settings)
    )
    rows = json.loads(shown.stdout)
    assert {row["caption"] for row in rows} == set(TEXTS[20:])
    assert {(row["spec"], row["reason"]) for row in rows} == {("goals", "no verdict")}
    assert all(row["redriven_at"] for row in rows)
    withdrawn = [r for r in records(settings, "annotations") if b"dead letter sent again" in r.value]
    assert len(withdrawn) == 6, "the log of answers tells of the withdrawals"


def test_a_letter_that_cannot_be_decoded_is_skipped_counted_and_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = TopicNames(settings.topic_prefix).dead_letters
    producer = clients.producer(settings)
    producer.send(topic, value=b"garbage", partition=0)
    producer.send(topic, value=codec.encode(LETTER), partition=0)
    producer.close()
    assert [entry.letter for entry in entries(settings)] == [LETTER]
    assert REGISTRY.get_sample_value("onibus_unreadable_records_total", {"topic": topic}) == 1
    assert f"unreadable record on {topic}, partition 0, offset 0: " in caplog.text


def test_two_at_once_send_each_letter_once(settings: Settings, specs: dict[bytes, AnnotationSpec]) -> None:
    publish(settings, TEXTS)
    with annotator(settings, specs=specs, model=MoodyModel()) as one:
        wait_for_labels(settings, len(TEXTS))
        one.stop()
    errors: list[OnibusError] = []

    def send() -> None:
        try:
            redrive(settings, Selection())
        except OnibusError as error:
            errors.append(error)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) <= 1
    assert len(records(settings, "captions")) == len(TEXTS) + 6
    assert all(entry.redriven_at for entry in entries(settings))


def test_the_command_says_what_it_would_do_and_refuses_what_it_does_not_understand(
    settings: Settings, specs: dict[bytes, AnnotationSpec], tmp_path: Path
) -> None:
    def onibus(*words: str):  # type: ignore[no-untyped-def]
        return run_onibus("dead-letters", *words, folder=tmp_path, environment=environment_of(settings))

    publish(settings, TEXTS)
    with annotator(settings, specs=specs, model=MoodyModel()):
        wait_for_labels(settings, len(TEXTS))
    assert "6 letters would be sent again" in onibus("redrive", "--since", "1h", "--spec", "goals").stdout
    done = json.loads(onibus("redrive", "--yes", "--json").stdout)
    assert (done["dry_run"], done["send"], done["sent"]) == (False, 6, 0)
    assert "--since" in the_one_line(onibus("redrive", "--since", "yesterday"))
    assert "choose one of: goals" in the_one_line(onibus("list", "--spec", "combat"))
