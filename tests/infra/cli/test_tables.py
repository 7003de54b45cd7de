"""Tables at the widths of real terminals."""

from __future__ import annotations

import pytest

from onibus.infra.cli.tables import print_table

COLUMNS = ("id", "verdict", "spec", "by", "annotated", "answers", "caption")
ROW = (
    "3f2a9c0d11e4", "helpful", "keys-and-doors", "demo-annotator-1 (llm)", "2026-11-26T15:00:00", "1",
    "You see here a key named \x1b[31mrusty\x1b[0m and several other things that are worth a look.",
)  # fmt: skip


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int | None
) -> list[str]:
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, [ROW, ROW], "labels")
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 240])
def test_every_cell_is_whole_at_every_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(capsys, monkeypatch, width)
    assert all(len(line) <= width for line in lines)
    for cell in ROW[:-1]:
        assert sum(cell in line for line in lines) >= 2
    assert "\x1b" not in "".join(lines)


def test_a_narrow_terminal_gets_a_block_per_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, 80)
    assert lines[0].strip() == "labels"
    assert lines[1].split() == ["id", "3f2a9c0d11e4"]
    assert len([line for line in lines if line.startswith("verdict")]) == 2


def test_a_wide_terminal_gets_a_row_per_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, 240)
    assert len([line for line in lines if ROW[0] in line and ROW[1] in line and "worth a look" in line]) == 2


def test_off_a_terminal_no_line_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, None)
    assert len([line for line in lines if ROW[0] in line and "worth a look" in line]) == 2
