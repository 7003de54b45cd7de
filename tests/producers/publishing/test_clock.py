"""A producer whose clock is wrong: its captions are taken and kept, and the clock is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from kafka.errors import InvalidTimestampError

from onibus.consumers.specs.spec_file import load_spec, publish_specs, read_specs
from onibus.infra.kafka.clock import ClockWatch, explained
from onibus.infra.kafka.topic_admin import check_topics, require_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import TransactionFailedError
from onibus.infra.settings import Settings, environment_of
from tests.command import REPOSITORY, run_onibus
from tests.consumers.annotating import records
from tests.topic_time import keep_producers_time

HOUR, DAY = 3_600, 86_400
NAMED = "the broker rejects the time of this machine's clock"


def publish_under_another_clock(settings: Settings, seconds: int) -> subprocess.CompletedProcess[str]:
    environment = {"CLOCK_SECONDS": str(seconds), "PYTHONPATH": str(REPOSITORY)} | environment_of(settings)
    return subprocess.run(
        [sys.executable, "-m", "tests.producers.publishing.sending", "20"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(2 * HOUR, "2 hours ahead of"), (-8 * DAY, "8 days behind")],
    ids=["ahead", "behind"],
)
def test_captions_of_a_wrong_clock_are_taken_and_the_clock_is_named(
    settings: Settings, seconds: int, said: str
) -> None:
    result = publish_under_another_clock(settings, seconds)
    assert result.stdout == "20 published, 0 dropped\n"
    assert result.stderr.count(f"this machine's clock is {said} the broker's") == 1, result.stderr
    kept = records(settings, "captions")
    now = records(settings, "captions")[-1].timestamp
    assert len(kept) == 20
    publish_specs(settings, [load_spec("goals")])
    (spec,) = read_specs(settings).values()
    assert abs(now / 1000 - spec.created_at / 1_000_000) < 60, "records have the broker's time"


def test_on_a_topic_that_keeps_producers_time_the_refusal_names_the_clock(settings: Settings) -> None:
    topic = TopicNames(settings.topic_prefix).captions
    keep_producers_time(settings, topic)
    result = publish_under_another_clock(settings, 2 * HOUR)
    assert result.stdout == "0 published, 20 dropped\n"
    assert NAMED in result.stderr, repr(result.stderr)
    require_topics(settings, role="rollout")
    (line,) = check_topics(settings)
    assert line == f"{topic} has message.timestamp.type CreateTime, not LogAppendTime"


@pytest.mark.slow
def test_an_annotator_that_cannot_announce_its_spec_names_the_clock(settings: Settings) -> None:
    keep_producers_time(settings, TopicNames(settings.topic_prefix).annotation_specs)
    result = run_onibus(
        "annotate", folder=settings.runs_dir, environment=environment_of(settings), under_clock=2 * HOUR
    )
    assert result.returncode == 2
    assert NAMED in result.stderr.splitlines()[-1]


def test_the_reason_is_found_within_other_errors() -> None:
    assert NAMED in str(TransactionFailedError(InvalidTimestampError()))
    assert explained(ValueError()) == "ValueError"


def test_a_clock_is_named_once_until_it_is_right_again(caplog: pytest.LogCaptureFixture) -> None:
    import time

    watch, now = ClockWatch(), int(time.time() * 1000)
    for written in (now, now - HOUR * 1000, now - HOUR * 1000, now, now + 3 * DAY * 1000):
        watch.see(written)
    told = [re.sub(r".*clock is (.*) the broker's.*", r"\1", line) for line in caplog.messages]
    assert told == ["60 minutes ahead of", "3 days behind"]
