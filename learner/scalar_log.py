"""TensorBoard files without a thread: tensorboardX's writers block for good once theirs has died."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from infra.files import SideFile

RETRY_SECONDS = 60.0
"""After a failed write scalars are left out for so long; then a new file is begun."""


class ScalarLog:
    """Scalars for TensorBoard in a folder of their own; training goes on when they cannot be written.

    Takes the place of tensorboardX's ``SummaryWriter`` in Sample Factory. A file that a write has
    failed on is not written any more: TensorBoard reads nothing behind a record that was cut short.
    """

    def __init__(self, folder: str | Path, **_options: Any) -> None:
        self._folder = Path(folder)
        self._file = SideFile(f"TensorBoard's files in {folder}")
        self._writer: EventsWriter | None = None
        self._next_try = 0.0

    def add_scalar(self, tag: str, value: float, global_step: int | None = None) -> None:
        """Write one value; it is in the file after the next :meth:`flush` at the latest."""
        if self._writer is None and time.monotonic() < self._next_try:
            return
        event = Event(summary=scalar(tag, value), wall_time=time.time())
        if global_step is not None:
            event.step = int(global_step)
        self._attempt(lambda: self._opened().write_event(event), buffered=True)

    def flush(self) -> None:
        """Have everything in the file."""
        if self._writer is not None:
            self._attempt(self._writer.flush)

    def close(self) -> None:
        """Flush and close the file, if there is one."""
        if self._writer is not None:
            self._attempt(self._writer.close)
            self._writer = None

    def _opened(self) -> EventsWriter:
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(self._folder / "events"))
        return self._writer

    def _attempt(self, work: Callable[[], object], buffered: bool = False) -> None:
        if not self._file.attempt(work, buffered=buffered):
            self._next_try = time.monotonic() + RETRY_SECONDS
            writer, self._writer = self._writer, None
            if writer is not None:
                with contextlib.suppress(OSError):  # of what its buffer still held
                    writer.close()
