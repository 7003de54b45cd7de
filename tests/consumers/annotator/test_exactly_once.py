"""Every distinct caption gets exactly one label per spec, whatever happens to annotators."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onibus.infra.settings import Settings, environment_of
from tests.command import Running, start_onibus
from tests.consumers.annotating import (
    HeldModel,
    annotator,
    assert_each_exactly_once,
    caption_ends,
    committed_offsets,
    label_keys,
    publish,
    rules_specs,
    wait_for_labels,
)
from tests.waiting import wait_until

TEXTS = [f"You kill the newt number {n}!" for n in range(400)]


@contextmanager
def pausing_annotator(settings: Settings, name: str, step: str, transaction: int) -> Iterator[Running]:
    """See :mod:`tests.consumers.pausing_annotator`; yields when it has paused."""
    child = start_onibus(
        *(name, step, transaction),
        module="tests.consumers.pausing_annotator",
        environment=environment_of(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "paused\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_two_annotators_share_the_work_and_label_each_caption_once(settings: Settings) -> None:
    specs, _ = rules_specs()
    publish(settings, TEXTS + TEXTS[:50])
    with annotator(settings, "a1") as one, annotator(settings, "a2") as two:
        wait_until(lambda: len(one.partitions) == len(two.partitions) == 2, 30, "two partitions each")
        more = [f"You feel stronger in {n} ways." for n in range(200)]
        publish(settings, TEXTS[100:300] + more)
        wait_for_labels(settings, len(TEXTS) + len(more))
        assert_each_exactly_once(settings, specs, TEXTS + more)
        summaries = [one.stop(), two.stop()]
    assert min(s.labels for s in summaries) > 0
    assert sum(s.labels for s in summaries) == len(TEXTS) + len(more)
    assert sum(s.failed_transactions for s in summaries) == 0
    assert committed_offsets(settings) == caption_ends(settings)


@pytest.mark.slow
def test_one_stops_in_the_middle_and_the_other_takes_over(settings: Settings) -> None:
    specs, rules = rules_specs()
    held = HeldModel(rules, allowed=60)
    publish(settings, TEXTS)
    with annotator(settings, "a1", model=held, most_under_way=30) as one:
        wait_for_labels(settings, 30)
        with annotator(settings, "a2") as two:
            wait_until(lambda: two.partitions, 30, "work for the second one")
            one.stop()
            wait_for_labels(settings, len(TEXTS))
            assert_each_exactly_once(settings, specs, TEXTS)
            two.stop()
    assert committed_offsets(settings) == caption_ends(settings)


def test_a_lone_annotator_stopped_in_the_middle_goes_on_where_it_was(settings: Settings) -> None:
    specs, rules = rules_specs()
    publish(settings, TEXTS)
    with annotator(settings, model=HeldModel(rules, allowed=150), most_under_way=40) as first:
        wait_for_labels(settings, 110)
        stopped = first.stop()
    assert 110 <= stopped.labels < len(TEXTS)
    with annotator(settings) as second:
        wait_for_labels(settings, len(TEXTS))
        assert second.stop().labels == len(TEXTS) - stopped.labels
    assert_each_exactly_once(settings, specs, TEXTS)


@pytest.mark.parametrize("step", ["records sent", "offsets sent"])
def test_killed_in_mid_transaction_and_restarted(settings: Settings, step: str) -> None:
    specs, _ = rules_specs()
    publish(settings, TEXTS)
    with pausing_annotator(settings, "a1", step, transaction=2) as child:
        written = label_keys(settings)
        assert 0 < len(written) < len(TEXTS)  # one transaction is committed, the second is open
        child.send_signal(signal.SIGKILL)
        child.wait()
    with annotator(settings, "a1") as again:
        wait_for_labels(settings, len(TEXTS))
        assert_each_exactly_once(settings, specs, TEXTS)
        assert again.stop().labels == len(TEXTS) - len(written)
    assert committed_offsets(settings) == caption_ends(settings)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["records sent", "offsets sent"])
def test_killed_in_mid_transaction_and_another_takes_over(settings: Settings, step: str) -> None:
    """Nobody restarts it: its transaction has to time out before the other may go on."""
    specs, _ = rules_specs()
    publish(settings, TEXTS)
    with pausing_annotator(settings, "a1", step, transaction=2) as child:
        written = len(label_keys(settings))
        with annotator(settings, "a2") as other:
            child.send_signal(signal.SIGKILL)
            child.wait()
            wait_for_labels(settings, len(TEXTS))
            assert_each_exactly_once(settings, specs, TEXTS)
            assert other.stop().labels == len(TEXTS) - written


@pytest.mark.slow
@pytest.mark.parametrize("step", ["beginning", "records sent", "offsets sent"])
def test_a_frozen_annotator_that_wakes_up_later_writes_nothing_twice(settings: Settings, step: str) -> None:
    specs, _ = rules_specs()
    publish(settings, TEXTS)
    with pausing_annotator(settings, "a1", step, transaction=2) as child:
        child.send_signal(signal.SIGSTOP)
        with annotator(settings, "a2") as other:
            wait_for_labels(settings, len(TEXTS))
            child.send_signal(signal.SIGCONT)
            assert child.stdin is not None
            print(file=child.stdin, flush=True)  # go on, as a member of a group that has gone on without you
            wait_until(lambda: len(other.partitions) < settings.partitions, 60, "the sleeper's return")
            more = [f"You hear the footsteps of guard {n}." for n in range(200)]
            publish(settings, more)
            wait_for_labels(settings, len(TEXTS) + len(more))
            assert_each_exactly_once(settings, specs, TEXTS + more)
            other.stop()


@pytest.mark.slow
def test_partitions_that_move_while_answers_are_missing_are_labelled_once(settings: Settings) -> None:
    """Answers that come in for partitions that belong to another annotator by now are not written."""
    specs, rules = rules_specs()
    held = HeldModel(rules)
    publish(settings, TEXTS)
    with annotator(settings, "a1", model=held, most_under_way=len(TEXTS)) as one:
        wait_until(lambda: len(held.asked) == len(TEXTS), 30, "every caption to be under way")
        with annotator(settings, "a2") as two:
            wait_until(lambda: len(two.partitions) == 2, 30, "half of the partitions to move")
            held.open.set()
            wait_for_labels(settings, len(TEXTS))
            assert_each_exactly_once(settings, specs, TEXTS)
            two.stop()
            wait_until(lambda: len(one.partitions) == 4, 30, "all partitions to come back")
            more = [f"The door opens {n} times." for n in range(50)]
            publish(settings, more + TEXTS)
            wait_for_labels(settings, len(TEXTS) + len(more))
            assert_each_exactly_once(settings, specs, TEXTS + more)
            assert one.stop().failed_transactions == 0
