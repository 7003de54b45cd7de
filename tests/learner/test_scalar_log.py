"""TensorBoard's files are as TensorBoard reads them, and nothing waits for a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from onibus.learner import scalar_log
from onibus.learner.scalar_log import ScalarLog
from tests.full_disk import full_disk
from tests.logged import logged


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    log = ScalarLog(tmp_path / "board")
    for step in range(5):
        log.add_scalar("onibus/return", step / 2, step)
    log.close()
    assert scalars(tmp_path / "board", "onibus/return") == [(n, n / 2) for n in range(5)]


def test_a_full_disk_blocks_nothing_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scalar_log, "RETRY_SECONDS", 0.0)
    log = ScalarLog(tmp_path / "board")
    with full_disk():
        for step in range(1_000):
            log.add_scalar("onibus/return", 0.5, step)
            log.flush()
    (said,) = [record.getMessage() for record in logged(caplog)]
    assert "TensorBoard's files" in said
    log.close()


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("a file stands in the way")
    log = ScalarLog(tmp_path / "board")
    log.add_scalar("onibus/return", 0.5, 1)
    log.flush()
    log.close()
