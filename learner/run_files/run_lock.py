"""One learner per run: its folder is locked while it is being trained."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.files import read_state, reason_of

log = logging.getLogger(__name__)

LOCK_FILE = "learner.lock"

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def only_learner_of(folder: Path) -> Iterator[None]:
    """Hold the run's folder, which is made if need be; the lock goes with the process, whatever ends it.

    Raises:
        OnibusError: another process holds it, or the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OnibusError(
            f"cannot write the run's folder {folder}: {reason_of(error)}; choose another --runs-dir"
        ) from error
    try:
        _take(lock, path)
        yield
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = read_state(path, lambda kept: f" by process {kept['pid']} on {kept['host']}", "")
        raise OnibusError(
            f"run {path.parent.name} is being trained{holder}; stop that, or choose another --run name"
        ) from error
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        log.warning("%s cannot be locked (%s): start no second learner of this run", path, reason_of(error))
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    except OSError as error:  # a full disk: the lock holds all the same
        log.warning("cannot write %s (%s)", path, reason_of(error))
