"""What a step's processor time is spent on, and flame graphs, from the profiles of a run's processes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from html import escape
from pathlib import Path

from onibus.learner.child_processes import BATCHER
from onibus.learner.process_profile import Profile

PARTS = (
    "NetHack",
    "wrapper",
    "captions",
    "inference",
    "sampling",
    "learner",
    "reward",
    "bus",
    "main process",
)
"""What :func:`split` tells apart."""

_OF_ROLLOUTS = (
    ("/nle/", "NetHack"),
    ("/minihack/", "NetHack"),
    ("producers/nethack/messages.py:_listening", "NetHack"),  # what calls the game
    ("producers/nethack/messages.py", "captions"),
    ("producers/nethack/environment.py:NetHackEnvironment._caption", "captions"),
    ("producers/publishing/", "captions"),
    ("producers/nethack/", "wrapper"),
    ("learner/sampling/acting_policy.py", "inference"),
    ("learner/networks.py", "inference"),
    ("/torch/", "inference"),
)
"""The innermost frame with one of these in its name decides."""
_OF_LEARNER = (("learner/rewards/", "reward"), ("consumers/", "reward"), ("_add_intrinsic_reward", "reward"))

_BY_PROCESS: dict[str, tuple[tuple[tuple[str, str], ...], str, str]] = {
    "rollout": (_OF_ROLLOUTS, "sampling", "bus"),
    "inference": ((), "inference", "inference"),
    "learner": (_OF_LEARNER, "learner", "bus"),
    "main": ((), "main process", "main process"),
}
"""Rules for a process's stacks, where the others belong, and where its other threads do."""


def split(profiles: Iterable[Profile], steps: float) -> dict[str, float]:
    """Microseconds of processor time a step by part, of :data:`PARTS`.

    Args:
        profiles: of all processes of a run.
        steps: environment steps while they were profiled.
    """
    seconds = dict.fromkeys(PARTS, 0.0)
    for profile in profiles:
        rules, rest, threads_are = _BY_PROCESS[profile.process.partition("_")[0]]
        ticks = sum(profile.stacks.values()) or 1
        for stack, count in profile.stacks.items():
            seconds[_part(stack, rules) or rest] += profile.main_seconds * count / ticks
        for name, value in profile.thread_seconds.items():
            seconds["learner" if name == BATCHER else threads_are] += value
    return {part: value * 1e6 / steps for part, value in seconds.items()}


def _part(stack: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for frame in reversed(stack.split(";")):
        for mark, part in rules:
            if mark in frame:
                return part
    return None


ROW, WIDTH, LEAST = 16, 1200, 0.5
"""Pixels of a flame graph: height of a row, width of all, and the width below which a frame is left out."""


def write_flame_graph(profile: Profile, path: Path) -> None:
    """An SVG: a frame is as wide as its share of the samples, what it calls stands above it."""
    total = sum(profile.stacks.values())
    boxes: list[tuple[int, str]] = []

    def draw(stacks: list[tuple[list[str], int]], left: float, depth: int) -> None:
        by_frame: dict[str, list[tuple[list[str], int]]] = defaultdict(list)
        for frames, count in stacks:
            if frames:
                by_frame[frames[0]].append((frames[1:], count))
        for frame, inner in by_frame.items():
            count = sum(n for _, n in inner)
            width = WIDTH * count / total
            if width >= LEAST:
                boxes.append((depth, _box(frame, count / total, left, depth, width)))
                draw(inner, left, depth + 1)
            left += width

    draw([(stack.split(";"), count) for stack, count in profile.stacks.items()], 0.0, 1)
    height = (max((depth for depth, _ in boxes), default=0) + 2) * ROW
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-height} {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11"><text x="4" y="{4 - height + ROW // 2}">{profile.process}, '
        f"{profile.main_seconds:.1f} s of processor time</text>"
    )
    path.write_text(head + "".join(box for _, box in boxes) + "</svg>\n")


def _box(frame: str, share: float, left: float, depth: int, width: float) -> str:
    file, _, function = frame.rpartition(":")
    label = f"{function} ({Path(file).name})"
    colour = hashlib.blake2b(file.encode(), digest_size=1).digest()[0]
    shown = escape(label[: int(width / 6)]) if width > 30 else ""
    return (
        f'<g><title>{escape(label)}: {share:.1%}</title><rect x="{left:.1f}" y="{-depth * ROW}" '
        f'width="{width:.1f}" height="{ROW - 1}" fill="hsl({colour}, 60%, 75%)"/>'
        f'<text x="{left + 2:.1f}" y="{-depth * ROW + 12}">{shown}</text></g>'
    )
