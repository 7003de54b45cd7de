"""State files: written whole or unchanged; rows stay separate; broken content is skipped."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from pathlib import Path

import pytest
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

from onibus.infra.errors import OnibusError
from onibus.infra.files import (
    RowFile,
    SideFile,
    last_row,
    read_rows,
    read_state,
    reason_of,
    sampled_rows,
    write_or_refuse,
    write_whole,
)
from tests.full_disk import full_disk
from tests.logged import logged


def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(path, "[1]")
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write_whole(path, "[1, 2, 3]")
    assert path.read_text() == "[1]"
    assert list(tmp_path.iterdir()) == [path]
    with (
        full_disk(),
        pytest.raises(OnibusError, match=r"cannot write .*state\.json: File too large; free some space"),
    ):
        write_or_refuse(path, "[1, 2, 3]")


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "new", b"x")
    write_whole(tmp_path / "secret", b"x", mode=0o600)
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 40, b"\xff\xfe", b"null", b'{"a": 1}', b"[[1, 2"])
def test_a_broken_state_file_is_ignored_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    assert read_state(path, lambda rows: [int(row) for row in rows], [7]) == [7]
    assert not logged(caplog), "a file that is not there is not broken"
    path.write_bytes(content)
    assert read_state(path, lambda rows: [int(row) for row in rows], [7]) == [7]
    assert "state.json cannot be read" in caplog.text


def test_a_new_row_is_never_joined_to_a_truncated_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history.jsonl"
    rows = RowFile(path)
    for n in range(3):
        rows.append({"n": n, "text": "x" * 50})
    rows.close()
    path.write_bytes(path.read_bytes()[:-40])
    rows = RowFile(path)
    rows.append({"n": 3})
    rows.append({"n": 4})
    rows.close()
    assert [row["n"] for row in read_rows(path, "n")] == [0, 1, 3, 4]
    assert "skipped 1 broken rows" in caplog.text


def test_a_row_that_was_cut_by_a_full_disk_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    rows = RowFile(path)
    rows.append({"n": 0})
    with full_disk(14), pytest.raises(OSError, match="File too large"):
        rows.append({"n": 1})
    assert path.stat().st_size == 14, "half a row was written"
    rows.append({"n": 2})
    assert [row["n"] for row in read_rows(path, "n")] == [0, 2]


def test_rows_are_read_around_whatever_is_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.jsonl"
    broken = [b"\0" * 30, b'{"n": 1, "te', b"[1]", b'{"m": 1}', b'{"n": "1"}', b"\xff\xfe", b""]
    broken += [b'{"n": 1, "return": Infinity}', b'{"n": 1e999}', b"[" * 100_000]
    path.write_bytes(b"\n".join([b'{"n": 0}', *broken, b'{"n": 2}', b'{"n"']))
    assert [row["n"] for row in read_rows(path, "n")] == [0, 2]
    assert "skipped 9 broken rows" in caplog.text, "neither empty lines nor one that is being written"
    assert read_rows(tmp_path / "missing", "n") == []


def test_a_failed_write_of_an_optional_file_is_logged_once_and_so_is_its_recovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    file = SideFile("the tally")
    path = tmp_path / "tally.json"
    with full_disk():
        assert [file.attempt(lambda: write_whole(path, "[1, 2]")) for _ in range(3)] == [False] * 3
    assert file.failure == "File too large"
    assert file.attempt(lambda: None, buffered=True)
    assert file.failure == "File too large", "a buffered write proves nothing"
    assert [file.attempt(lambda: write_whole(path, "[1, 2]")) for _ in range(3)] == [True] * 3
    assert [record.getMessage() for record in logged(caplog)] == [
        "cannot write the tally (File too large); continuing without it",
        "the tally can be written again",
    ]


def rows_in(path: Path, count: int, padding: str = "") -> None:
    rows = (json.dumps({"n": n, "text": padding}) for n in range(count))
    path.write_text("\n".join(rows) + '\n{"n": "cut sho')


@pytest.mark.parametrize("count", [1, 7, 300, 5_000])
@pytest.mark.parametrize("padding", ["", "x" * 400])
def test_rows_of_a_long_file_are_sampled_evenly(tmp_path: Path, count: int, padding: str) -> None:
    path = tmp_path / "rows.jsonl"
    rows_in(path, count, padding)
    numbers = [row["n"] for row in sampled_rows(path, 100)]
    assert (numbers[0], numbers[-1]) == (0, count - 1)
    assert numbers == sorted(set(numbers))
    assert min(100, count) // 2 <= len(numbers) <= 102
    gaps = [after - before for before, after in pairwise(numbers)]
    assert max(gaps, default=1) <= 3 * max(1, count // 100)
    assert last_row(path)["n"] == count - 1


def test_without_a_row_there_is_no_sample(tmp_path: Path) -> None:
    assert sampled_rows(tmp_path / "none", 10) == []
    assert last_row(tmp_path / "none") == {}
    (tmp_path / "cut").write_text('{"n": 1')
    assert sampled_rows(tmp_path / "cut", 10) == []
    assert last_row(tmp_path / "cut") == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KafkaTimeoutError("no offsets in 10 ms"), "KafkaTimeoutError: no offsets in 10 ms"),
        (KafkaTimeoutError(), "KafkaTimeoutError"),
        (TopicAlreadyExistsError("labels"), "[Error 36] TopicAlreadyExistsError: labels"),
        (KafkaTimeoutError(KafkaTimeoutError("late")), "KafkaTimeoutError: late"),
        (KafkaError(TopicAlreadyExistsError("a")), "KafkaError: [Error 36] TopicAlreadyExistsError: a"),
        (ValueError("a: a"), "ValueError: a: a"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
    ids=repr,
)
def test_an_errors_type_is_named_once(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
