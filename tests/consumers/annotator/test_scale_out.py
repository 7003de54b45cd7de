"""Several annotators: as workers of one command, as static members, under two specs side by side."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.workers import worker_options
from onibus.consumers.language_models.base import Answer, Question
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.kafka.topic_admin import crowded_groups
from onibus.infra.settings import Settings, environment_of
from tests.command import Running, run_onibus, start_onibus
from tests.consumers.annotating import (
    GROUP,
    HeldModel,
    annotator,
    assert_each_exactly_once,
    expected_keys,
    label_keys,
    publish,
    records,
    rules_specs,
    wait_for_labels,
)
from tests.learner.runs import is_fork_server
from tests.waiting import wait_until

TEXTS = [f"You see here {n} arrows." for n in range(120)]
COMMAND = ("annotate", "--backlog", "all", "--yes")


def test_workers_get_names_and_ports_of_their_own() -> None:
    two = worker_options(AnnotateOptions(name="gpu", metrics_port=9400), 2)
    assert [(o.name, o.metrics_port) for o in two] == [("gpu-0", 9400), ("gpu-1", 9401)]
    assert [o.metrics_port for o in worker_options(AnnotateOptions(), 2)] == [None, None]


@pytest.mark.slow
def test_workers_share_the_work_are_started_again_and_leave_no_orphan(settings: Settings) -> None:
    specs, _ = rules_specs()
    with two_annotators(settings) as parent:
        children = workers_of(parent.pid)
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(parent.pid)) - {children[0]}) == 2, 30, "a new worker")
        children = workers_of(parent.pid)
        parent.send_signal(signal.SIGTERM)
        _, log = parent.communicate(timeout=15)
    assert parent.returncode == 0, log
    assert "died (-9); starting it again" in log
    assert "Traceback" not in log
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 15, "no orphans")
    assert_each_exactly_once(settings, specs, TEXTS)


@pytest.mark.slow
def test_kill_9_of_the_parent_ends_its_workers(settings: Settings) -> None:
    with two_annotators(settings) as parent:
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
    wait_until(lambda: not any(child.is_running() for child in children), 20, "no orphans")


@pytest.mark.slow
def test_without_the_process_they_were_forked_from_annotators_stop(settings: Settings) -> None:
    with two_annotators(settings) as parent:
        children = psutil.Process(parent.pid).children(recursive=True)
        next(filter(is_fork_server, children)).kill()
        _, log = parent.communicate(timeout=30)
    assert parent.returncode == 2, log
    assert "the process that all annotators are forked from was killed" in log
    assert "starting it again" not in log
    assert "Traceback" not in log
    wait_until(lambda: not any(child.is_running() for child in children), 20, "no orphans")


@contextmanager
def two_annotators(settings: Settings) -> Iterator[Running]:
    """A command with two annotators that have labelled :data:`TEXTS`; killed at the end if it still runs."""
    publish(settings, TEXTS)
    parent = start_onibus(
        *(*COMMAND, "--workers", "2", "--name", "w"),
        environment=environment_of(settings),
        stderr=subprocess.PIPE,
    )
    try:
        wait_for_labels(settings, len(TEXTS))
        yield parent
    finally:
        parent.kill()
        parent.wait()


def workers_of(pid: int) -> list[int]:
    """Processes that annotate; multiprocessing has others for its own book-keeping."""
    family = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in family if child.name().startswith("annotator-")]


def test_what_is_under_way_for_a_partition_that_another_gets_is_written_first_and_not_asked_again(
    settings: Settings,
) -> None:
    class Slow(HeldModel):
        async def answer(self, question: Question) -> Answer:
            self.asked[question.text] += 1
            await asyncio.sleep(0.1)
            return await self._inner.answer(question)

    specs, rules = rules_specs()
    model = Slow(rules)
    texts = [f"You see here {n} arrows." for n in range(2_000)]
    with (
        publishing(settings, texts) as done,
        annotator(settings, "a1", model=model, most_under_way=20) as one,
    ):
        wait_until(lambda: len(model.asked) > 100, 30, "the first one to be at work")
        with annotator(settings, "a2", model=model, most_under_way=20) as two:
            wait_until(lambda: len(one.partitions) == len(two.partitions) == 2, 15, "two partitions each")
            assert not done.is_set(), "too few captions: nothing was under way when the partitions went"
            wait_for_labels(settings, len(texts))
            assert one.stop().failed_transactions == two.stop().failed_transactions == 0
    assert set(model.asked.values()) == {1}
    assert_each_exactly_once(settings, specs, texts)


@contextmanager
def publishing(settings: Settings, texts: Sequence[str]) -> Iterator[threading.Event]:
    """Publish a few at a time, so that all partitions have captions under way; yields what tells the end."""
    done = threading.Event()

    def publish_all() -> None:
        for start in range(0, len(texts), 20):
            publish(settings, texts[start : start + 20])
            time.sleep(0.05)
        done.set()

    thread = threading.Thread(target=publish_all)
    thread.start()
    try:
        yield done
    finally:
        thread.join()


@pytest.mark.slow
def test_a_static_member_has_its_partitions_again_after_a_restart_and_others_notice_nothing(
    settings: Settings,
) -> None:
    specs, _ = rules_specs()
    with annotator(settings, "a2", is_static=True) as other:
        with annotator(settings, "a1", is_static=True) as one:
            wait_until(lambda: len(one.partitions) == len(other.partitions) == 2, 30, "two partitions each")
            theirs, member = other.partitions, other.process._member
            assert member is not None
            # Its own part of the last rebalance may end a moment after the other's.
            wait_until(lambda: member.stable_metadata() is not None, 10, "the end of the rebalance")
            before = member.stable_metadata()
            one.stop()
        with annotator(settings, "a1", is_static=True) as again:
            wait_until(lambda: len(again.partitions) == 2, 30, "its partitions")
            publish(settings, TEXTS)
            wait_for_labels(settings, len(TEXTS))
            assert (other.partitions, member.stable_metadata()) == (theirs, before), "there was a rebalance"
    assert_each_exactly_once(settings, specs, TEXTS)


def test_two_specs_side_by_side_in_separate_groups_label_the_same_captions(settings: Settings) -> None:
    """A changed prompt is another spec: its labels stand beside the old ones."""
    file = load_spec_file("goals")
    changed = file.model_copy(update={"name": "goals-2", "goal": "Find the stairs."})
    goals, rules = rules_specs("goals")
    publish(settings, TEXTS)
    with annotator(settings, "a1", goals, rules):
        wait_for_labels(settings, len(TEXTS))
        from onibus.consumers.language_models.rules import RulesModel
        from onibus.schemas import ids

        assert changed.rules is not None
        other_id = ids.spec_id(changed.for_rules())
        counting = HeldModel(RulesModel({other_id: changed.rules}))
        counting.open.set()
        other = {other_id: changed.for_rules()}
        with annotator(settings, "b1", other, counting, group="annotators.other"):
            more = [f"The door opens {n} times." for n in range(30)]
            publish(settings, more)
            wait_for_labels(settings, 2 * (len(TEXTS) + len(more)))
    both = expected_keys([*goals, *other], TEXTS + more)
    assert label_keys(settings) == Counter(both)
    assert set(counting.asked.values()) == {1}
    assert len({r.key for r in records(settings, "annotation-specs")}) == 2


def test_how_many_partitions_an_annotator_has_is_said_whenever_that_changes(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def said(line: str) -> None:
        wait_until(lambda: line in caplog.messages, 60, line)

    group = f"of group {settings.topic_prefix}{GROUP}"
    with annotator(settings, "a1"):
        said(f"ready: annotator a1 {group}, 4 partitions")
        with annotator(settings, "a2"):
            said(f"now: annotator a1 {group}, 2 partitions")
            said(f"ready: annotator a2 {group}, 2 partitions")
        said(f"now: annotator a1 {group}, 4 partitions")
    assert len([line for line in caplog.messages if "ready: " in line]) == 2


@pytest.mark.slow
def test_more_members_than_partitions_are_told(settings: Settings, tmp_path: Path) -> None:
    assert crowded_groups(settings) == []
    narrow = settings.model_copy(update={"partitions": 1})  # as if the topics had one
    with annotator(settings, "a1"), annotator(settings, "a2") as two:
        wait_until(lambda: two.partitions, 30, "partitions")
        (line,) = crowded_groups(narrow)
        assert "2 members for 1 partitions: 1 are idle" in line
        done = run_onibus("topics", "check", "--json", folder=tmp_path, environment=environment_of(settings))
        assert json.loads(done.stdout) == {"differences": [], "warnings": []}
