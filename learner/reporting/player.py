"""A recorded episode as one HTML page that plays it: no server, no network, nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from onibus.learner.reporting.pages import rendered
from onibus.learner.reporting.run_judge import CaptionJudge
from onibus.producers.nethack.playback import Frame

_CELLS, _BLANK = 1920, 32
_BLACK, _BLUE = 0, 4  # NetHack shows black as blue: most terminals are black
_SHOWN = np.array([code if chr(code).isprintable() else _BLANK for code in range(256)], np.uint16)
"""What is shown of each code of NetHack's screen."""


def player_page(
    title: str, facts: Sequence[tuple[str, str]], frames: Iterable[Frame], judge: CaptionJudge
) -> str:
    """The page.

    A frame is kept as what changed since the one before, so that 3,000 steps take well below 2 MB.

    Args:
        title: of the page.
        facts: name and value of what is said of the episode above its screen.
        frames: of the whole episode, the reset's first.
        judge: what is said of each caption, and what it pays.
    """
    episode = json.dumps(_recorded(frames, judge), separators=(",", ":"), ensure_ascii=False)
    # Text of the game must not end the element that holds it.
    held = Markup(episode.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
    return rendered("player.html.j2", title=title, facts=facts, episode=held)


def _recorded(frames: Iterable[Frame], judge: CaptionJudge) -> dict[str, Any]:
    """What the page is made of.

    Attributes of the result:
        frames: of each step position, colour and text of every run of cells that changed, in one list.
        texts: captions, each once, with its verdict.
        said: step, number of the text, how often it had come up by then, and what it paid.
        paid: step and amount of the task's own rewards.
    """
    cells = np.full(_CELLS, _BLANK, np.uint16)
    changes, said, paid = [], [], []
    texts: dict[str, tuple[int, str]] = {}
    for frame in frames:
        now = _cells(frame)
        changes.append(_changed(cells, now))
        cells = now
        if frame.extrinsic:
            paid.append((frame.step, round(frame.extrinsic, 6)))
        if frame.caption is not None:
            judged = judge(frame.caption, frame.count)
            number, _ = texts.setdefault(frame.caption, (len(texts), judged.verdict))
            said.append((frame.step, number, frame.count, round(judged.reward, 6)))
    verdicts = [(text, verdict) for text, (_, verdict) in texts.items()]
    return {"frames": changes, "texts": verdicts, "said": said, "paid": paid}


def _cells(frame: Frame) -> NDArray[np.uint16]:
    """Code and colour of each cell in one number, (_CELLS,); blanks have no colour."""
    codes = _SHOWN[frame.characters.reshape(-1)]
    colours = np.abs(frame.colours.reshape(-1)).astype(np.uint16) % 16
    colours[colours == _BLACK] = _BLUE
    return codes | np.where(codes == _BLANK, 0, colours << 8).astype(np.uint16)


def _changed(before: NDArray[np.uint16], now: NDArray[np.uint16]) -> list[int | str]:
    """Runs of cells that differ: position, colour, text and so on. A blank takes the colour of its run."""
    places = np.flatnonzero(before != now)
    runs: list[tuple[int, int, list[str]]] = []
    end = -1
    for place, cell in zip(places.tolist(), now[places].tolist(), strict=True):
        code, colour = cell & 255, cell >> 8
        if place == end and (not colour or colour == runs[-1][1]):
            runs[-1][2].append(chr(code))
        else:
            runs.append((place, colour, [chr(code)]))
        end = place + 1
    return [part for place, colour, text in runs for part in (place, colour, "".join(text))]
