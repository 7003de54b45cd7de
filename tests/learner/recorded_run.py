"""The files of a run of which a report can be made."""

from __future__ import annotations

import json
from pathlib import Path

from onibus.learner.options import make_options, save_options


def recorded_run(folder: Path) -> Path:
    """Write options and a history of twenty points, the last line cut short; returns the folder."""
    save_options(make_options("keyroom-s5", run=folder.name), folder)
    rows = [
        {
            "time": 1e9 + n,
            "seconds": float(n),
            "env_steps": 1000.0 * n,
            "return": n / 10 - 1,
            "intrinsic_return": n / 20,
            "gold": 0.0,
            "turns": float(n),
            "episodes_averaged": 100.0,
        }
        for n in range(20)
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / "history.jsonl").write_text("\n".join(lines) + '\n{"cut sho')
    return folder
    return folder
