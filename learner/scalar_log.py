"""TensorBoard files without a thread: tensorboardX's writers block for good once theirs has died."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path
from typing import Any

from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from onibus.infra.files import SideFile

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
        self._stream: BufferedWriter | None = None
        self._next_try = 0.0

    def add_scalar(self, tag: str, value: float, global_step: int) -> None:
        """Write one value; it is in the file after the next :meth:`flush` at the latest."""
        if self._stream is None and time.monotonic() < self._next_try:
            return
        event = Event(summary=scalar(tag, value), wall_time=time.time(), step=int(global_step))
        self._attempt(lambda: _append(self._opened(), event), buffered=True)

    def flush(self) -> None:
        """Have everything in the file."""
        if self._stream is not None:
            self._attempt(self._stream.flush)

    def close(self) -> None:
        """Flush and close the file, if there is one."""
        if self._stream is not None:
            self._attempt(self._stream.close)
            self._stream = None

    def _opened(self) -> BufferedWriter:
        if self._stream is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
            self._stream = (self._folder / name).open("wb")
            _append(self._stream, Event(wall_time=time.time(), file_version="brain.Event:2"))
        return self._stream

    def _attempt(self, work: Callable[[], object], buffered: bool = False) -> None:
        if not self._file.attempt(work, buffered=buffered):
            self._next_try = time.monotonic() + RETRY_SECONDS
            stream, self._stream = self._stream, None
            if stream is not None:
                stream.raw.close()  # without what its buffer still holds, which the disk does not take


def _append(stream: BufferedWriter, event: Event) -> None:
    RecordWriter(stream).write(event.SerializeToString())
