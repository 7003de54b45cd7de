"""A run's history: what it was like about once a second, one JSON object a line."""

from __future__ import annotations

from pathlib import Path

from onibus.infra.files import read_rows

HISTORY_FILE = "history.jsonl"

EPISODE_STATISTICS = {
    "reward": "return",
    "len": "episode_steps",
    "score": "score",
    "depth": "depth",
    "experience_level": "experience_level",
    "gold": "gold",
    "turns": "turns",
    "success": "success",
    "died": "died",
    "scout": "scout",
    "kills": "kills",
    "progression": "progression",
}
"""Sample Factory's names of episode statistics, and ours."""


def read_history(folder: Path) -> list[dict[str, float]]:
    """The history of the run in ``folder``, oldest first; broken rows are left out."""
    return read_rows(folder / HISTORY_FILE, "seconds")


def last_seconds(folder: Path) -> float:
    """Seconds of training that the run in ``folder`` has behind it."""
    rows = read_history(folder)
    return rows[-1]["seconds"] if rows else 0.0
