"""Run folders with histories of which the answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onibus.learner.options import make_options, save_options


def made_run(folder: Path, reached: float, *, steps: int = 1000, **given: Any) -> Path:
    """A run whose return rises from 0 to ``reached`` in the first half of its steps; its folder."""
    save_options(make_options(given.pop("task", "score"), run=folder.name, **given), folder)
    rows = [
        {
            "seconds": n * 3.6,
            "env_steps": n * steps / 100,
            "cpu_seconds": n * 7.2,
            "captions_published": float(n),
            "return": min(1.0, n / 50) * reached,
            "intrinsic_return": 1.0,
        }
        for n in range(101)
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def three_groups(runs: Path) -> list[Path]:
    """Nine runs: gold, stairs and no reward on three seeds each."""
    folders = []
    for spec, level in (("gold", 10.0), ("stairs", 4.0), (None, 3.0)):
        for seed in (1, 2, 3):
            given: dict[str, Any] = {"reward": "none"} if spec is None else {"specs": [f"{spec}=0.1"]}
            folders.append(made_run(runs / f"{spec}-{seed}", level + seed, seed=seed, **given))
    return folders
