"""Frames of an episode for the eye: on a terminal, or in an asciicast file that plays anywhere."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import console, printable
from onibus.infra.screen import screen_lines
from onibus.producers.nethack.playback import Frame

if TYPE_CHECKING:
    from onibus.learner.reporting.run_judge import Judgement

WIDTH, HEIGHT = 132, 27
"""Columns and rows of an asciicast: NetHack's 80 by 24, captions beside it, a line above."""

_COLUMNS, _ROWS = 80, 24
_BESIDE = 112
"""Columns from which captions stand beside the map instead of below it."""
_KEPT = 200
_MARKS = {"helpful": "✓", "unhelpful": "✗", "unsure": "?"}
_PLAIN_MARKS = {"helpful": "+", "unhelpful": "-", "unsure": "?"}


class PlaybackView:
    """What is seen of an episode after each frame: the map, captions with their rewards, totals."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._captions: deque[tuple[Frame, Judgement]] = deque(maxlen=_KEPT)
        self._frame: Frame | None = None
        self.extrinsic = self.intrinsic = 0.0

    def add(self, frame: Frame, judged: Judgement) -> None:
        """Take over a frame, and what was said of its caption."""
        self._frame = frame
        self.extrinsic += frame.extrinsic
        self.intrinsic += judged.reward
        if frame.caption is not None:
            self._captions.append((frame, judged))

    def render(self, width: int, height: int, ascii_only: bool = False) -> RenderableType:
        """What to show now on so many columns and rows, 80 by 24 at least; call :meth:`add` before.

        Captions stand beside the map where there is room, else below it. On 24 rows the newest one takes the
        place of the line in which the game says it.
        """
        assert self._frame is not None
        is_low, has_side = height <= _ROWS, width >= _BESIDE
        below = 0 if has_side else max(0, height - _ROWS - 1)
        screen = Text("\n", no_wrap=True, overflow="crop").join(
            screen_lines(self._frame.characters, self._frame.colours)[is_low:]
        )
        head = self._head(self._frame, "" if has_side or below else self._newest(ascii_only), ascii_only)
        if not has_side:
            return Group(head, screen, *self._lines(below, ascii_only))
        table = Table.grid(padding=(0, 1))
        table.add_column(width=_COLUMNS)
        table.add_column(width=width - _COLUMNS - 2)
        table.add_row(
            screen, Text("\n", no_wrap=True).join(self._lines(min(height - 1, _ROWS - is_low), ascii_only))
        )
        return Group(head, table)

    def _head(self, frame: Frame, newest: str, ascii_only: bool) -> Text:
        """Numbers first: what is too long for the line is cut at its end."""
        totals = f"step {frame.step}  return {self.extrinsic:.2f}  intrinsic {self.intrinsic:.2f}"
        return Text(f"{totals}  {newest or self._title}", "bold", no_wrap=True, overflow=_cut(ascii_only))

    def _newest(self, ascii_only: bool) -> str:
        """The caption of the step that is shown, if it has one."""
        if not self._captions or self._captions[-1][0] is not self._frame:
            return " "
        return _said(*self._captions[-1], ascii_only)

    def _lines(self, most: int, ascii_only: bool) -> Sequence[Text]:
        shown = list(self._captions)[-most:] if most else []
        return [
            Text(
                f"{frame.step:6} {_said(frame, judged, ascii_only)}",
                "bold green" if judged.reward > 0 else "bold red" if judged.reward < 0 else "dim",
                no_wrap=True,
                overflow=_cut(ascii_only),
            )
            for frame, judged in shown
        ]


def _cut(ascii_only: bool) -> OverflowMethod:
    return "crop" if ascii_only else "ellipsis"


def _said(frame: Frame, judged: Judgement, ascii_only: bool) -> str:
    """Verdict, reward, how often it has come up, and the words: numbers first, so that none is cut."""
    mark = (_PLAIN_MARKS if ascii_only else _MARKS).get(judged.verdict, " ")
    times = f"{'x' if ascii_only else '×'}{frame.count} " if frame.count > 1 else ""
    return f"{mark} {judged.reward:+.2f} {times}{printable(frame.caption or '')}"


class Terminal:
    """Shows frames in place, as large as the terminal is at that moment."""

    def __init__(self, shown_on: Console) -> None:
        self._console = shown_on
        self._live = Live(console=shown_on, auto_refresh=False, screen=shown_on.is_terminal)
        self._is_shown = False

    def __enter__(self) -> Terminal:
        self._live.__enter__()
        return self

    def __exit__(self, *arguments: object) -> None:
        self._live.__exit__(None, None, None)
        if self._is_shown and not self._console.is_terminal:
            self._console.line()  # the last frame alone was written, without an end

    def show(self, view: PlaybackView) -> None:
        """Put the next frame in the last one's place."""
        size, self._is_shown = self._console.size, True
        self._live.update(
            view.render(size.width, size.height, self._console.options.ascii_only), refresh=True
        )

    def say(self, line: str) -> None:
        """Show a line alone, where it is seen in place."""
        if self._console.is_terminal:
            self._live.update(Text(line, "dim"), refresh=True)


class Asciicast:
    """Writes frames as an asciicast, version 2 (docs.asciinema.org/manual/asciicast/v2): JSON Lines of text.

    Args:
        seconds: between two frames.

    Raises:
        OnibusError: the file cannot be written.
    """

    def __init__(self, path: Path, title: str, seconds: float) -> None:
        self._seconds, self._time = seconds, 0.0
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise OnibusError(f"cannot write {path}: {error.strerror}; give another path") from error
        self._write({"version": 2, "width": WIDTH, "height": HEIGHT, "title": title})

    def __enter__(self) -> Asciicast:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def show(self, view: PlaybackView) -> None:
        """Add the next frame."""
        out = io.StringIO()
        console(file=out, force_terminal=True, color_system="standard", width=WIDTH, height=HEIGHT).print(
            view.render(WIDTH, HEIGHT)
        )
        lines = out.getvalue().rstrip("\n").split("\n")
        frame = "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J"
        self._write([round(self._time, 6), "o", frame])
        self._time += self._seconds

    def _write(self, line: object) -> None:
        self._file.write(json.dumps(line) + "\n")
