"""A failure that passes by itself is not reported; one that lasts is, once and with what to do about it."""

from __future__ import annotations

import logging

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from onibus.infra.errors import OnibusError
from onibus.infra.kafka import lasting_failure
from onibus.infra.kafka.lasting_failure import LastingFailure
from onibus.infra.settings import Settings, load_settings
from tests.ports import free_port

LATE = KafkaTimeoutError("no offsets in 10 ms")


@pytest.fixture
def gone(caplog: pytest.LogCaptureFixture) -> LastingFailure:
    caplog.set_level(logging.INFO, logger="test")
    settings = load_settings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    return LastingFailure(settings, logging.getLogger("test"), "it could not be read")


def own(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without what kafka-python logs."""
    return [record.getMessage() for record in caplog.records if record.name == "test"]


def test_what_passes_within_half_a_minute_is_not_reported(
    gone: LastingFailure, caplog: pytest.LogCaptureFixture
) -> None:
    wrapped = OnibusError("the cluster does not list its groups")
    wrapped.__cause__ = LATE
    for error in (LATE, LATE, wrapped):
        gone.failed(error)
        assert gone.is_on
    gone.passed()
    assert not gone.is_on
    assert gone.reason is None
    assert not own(caplog)


def test_what_lasts_is_reported_once_with_what_to_do_and_when_it_is_over(
    gone: LastingFailure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone.failed(LATE)
    monkeypatch.setattr(lasting_failure, "QUIET_SECONDS", 0.0)
    gone.failed(LATE)
    gone.failed(LATE)
    assert gone.reason is not None
    assert "start one with: onibus broker start" in gone.reason
    gone.passed()
    assert [line.partition(": ")[0] for line in own(caplog)] == [
        "it could not be read, trying again",
        "it could not be read; it works again",
    ]


def test_a_busy_cluster_s_error_is_named_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting_failure, "QUIET_SECONDS", 0.0)
    failure = LastingFailure(settings, logging.getLogger("test"), "it could not be read")
    failure.failed(LATE)
    assert failure.reason is not None
    assert "(KafkaTimeoutError: no offsets in 10 ms); check that every broker is up" in failure.reason


@pytest.mark.parametrize(
    "error", [TopicAuthorizationFailedError("labels"), OnibusError("the log was cut")], ids=repr
)
def test_what_does_not_pass_by_itself_is_reported_at_once(gone: LastingFailure, error: Exception) -> None:
    gone.failed(error)
    assert gone.reason is not None
