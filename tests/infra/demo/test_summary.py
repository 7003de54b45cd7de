"""The demo's summary as it is printed."""

from __future__ import annotations

from onibus.infra.demo.summary import LONGEST, CaptionRow, _captions
from onibus.infra.process.terminal import console


def test_of_long_captions_beginning_and_end_are_shown() -> None:
    alike = "You see here " + "a key and " * 20
    printed = console(width=200)
    with printed.capture() as captured:
        printed.print(
            _captions([CaptionRow(alike + last, "helpful", 1, 0.5) for last in ("a door.", "a wall.")])
        )
    rows = [line for line in captured.get().splitlines() if "You see here" in line]
    assert len(rows) == 2
    for row, last in zip(rows, ("a door.", "a wall."), strict=True):
        assert last in row
        assert len(row.split("│")[1].strip()) == LONGEST
