"""The sessions of a run: how often it was started, and with which options each time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from onibus.infra.files import RowFile, read_state, write_whole
from onibus.learner.options import LearnOptions

SESSIONS_FILE = "sessions"
"""How often the run was started; a resumed run plays other games by it."""

SESSION_LOG = "sessions.jsonl"
"""A row for each start: the flags that were given then, and all options."""


def sessions_before(folder: Path) -> int:
    """How often the run in ``folder`` was started.

    Where the count is lost: each session wrote a file for TensorBoard. Games must not come up again.
    """
    left = len(list((folder / "tensorboard").glob("events*")))
    return read_state(folder / SESSIONS_FILE, int, left)


def begin_session(
    folder: Path,
    session: int,
    options: LearnOptions,
    given: Mapping[str, Any],
    before: LearnOptions | None,
) -> None:
    """Count and record a start.

    Args:
        folder: of the run.
        session: how often the run was started before.
        options: of this session.
        given: by flags.
        before: the options of the session before; recorded, too, where an older onibus did not.

    Raises:
        OSError: a file cannot be written.
    """
    is_recorded = (folder / SESSION_LOG).exists()
    with closing(RowFile(folder / SESSION_LOG)) as rows:
        if before is not None and not is_recorded:
            rows.append({"session": max(0, session - 1), "options": before.model_dump(mode="json")})
        rows.append(
            {
                "session": session,
                "started_at": time.time_ns() // 1000,
                "given": dict(given),
                "options": options.model_dump(mode="json"),
            }
        )
    write_whole(folder / SESSIONS_FILE, f"{session + 1}\n")
