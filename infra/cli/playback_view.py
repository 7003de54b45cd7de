"""Frames of an episode for the eye: on a terminal, or in an asciicast file that plays anywhere."""

from __future__ import annotations

import io
import json
from collections import deque
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import console, printable
from onibus.producers.nethack.playback import Frame

WIDTH, HEIGHT = 132, 27
"""Columns and rows of a frame: NetHack's 80 by 24, captions beside it, a line below."""

_CAPTIONS_SHOWN = 18
_BLACK, _BLUE = 0, 4  # NetHack shows black as blue: most terminals are black


class PlaybackView:
    """What is seen of an episode after each frame: the map, captions with their rewards, totals."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._captions: deque[Text] = deque(maxlen=_CAPTIONS_SHOWN)
        self.extrinsic = self.intrinsic = 0.0

    def add(self, frame: Frame, intrinsic: float) -> RenderableType:
        """Take over a frame and its intrinsic reward; what to show now."""
        self.extrinsic += frame.extrinsic
        self.intrinsic += intrinsic
        if frame.caption is not None:
            line = f"{frame.step:5} {intrinsic:+.2f} {printable(frame.caption)}" + f" ({frame.count})" * (
                frame.count > 1
            )
            style = "bold green" if intrinsic > 0 else "bold red" if intrinsic < 0 else "dim"
            self._captions.append(Text(line, style, no_wrap=True, overflow="ellipsis"))
        table = Table.grid(padding=(0, 1))
        table.add_column(width=80)
        table.add_column(width=WIDTH - 82)
        table.add_row(screen_text(frame), Text("\n", no_wrap=True).join(self._captions))
        totals = f"extrinsic {self.extrinsic:.2f}  intrinsic {self.intrinsic:.2f}"
        status = f"{self._title}  step {frame.step}  {totals}"
        table.add_row(Text(status, "bold", no_wrap=True, overflow="ellipsis"), "")
        return table


def screen_text(frame: Frame) -> Text:
    """NetHack's screen with its colours, 24 lines."""
    text = Text(no_wrap=True)
    for characters, colours in zip(frame.characters.tolist(), frame.colours.tolist(), strict=True):
        for character, colour in zip(characters, colours, strict=True):
            shown = chr(character) if chr(character).isprintable() else " "
            text.append(shown, None if shown == " " else f"color({abs(colour) % 16 or _BLUE})")
        text.append("\n")
    return text


class Terminal:
    """Shows frames in place, at a speed."""

    def __init__(self, shown_on: Console) -> None:
        self._live = Live(console=shown_on, auto_refresh=False, screen=shown_on.is_terminal)

    def __enter__(self) -> Terminal:
        self._live.__enter__()
        return self

    def __exit__(self, *arguments: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, view: RenderableType) -> None:
        """Put the next frame in the last one's place."""
        self._live.update(view, refresh=True)


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

    def show(self, view: RenderableType) -> None:
        """Add the next frame."""
        out = io.StringIO()
        console(file=out, force_terminal=True, color_system="standard", width=WIDTH, height=HEIGHT).print(
            view
        )
        lines = out.getvalue().rstrip("\n").split("\n")
        frame = "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J"
        self._write([round(self._time, 6), "o", frame])
        self._time += self._seconds

    def _write(self, line: object) -> None:
        self._file.write(json.dumps(line) + "\n")
