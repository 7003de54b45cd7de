"""``onibus annotate --workers N``: several annotators on one machine, as processes under one parent.

One that is killed or crashes is started again; one that a person has to help (exit code 2) ends all.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from kafka.errors import KafkaError

from onibus.consumers.annotator.group_offsets import GroupOffsets
from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.run import Approve, group_offsets, run
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import explained
from onibus.infra.process.fork_server import SERVER_GONE, start_worker, worker_context
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.parent_death import end_with_parent
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

_log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
"""In which a worker that waits for no answers stops."""
_LOOK_SECONDS = 0.2
_RESTART_SECONDS = 1.0
_NEEDS_HELP = 2
_MAY_PASS = 1


def run_workers(
    settings: Settings, options: AnnotateOptions, count: int, approve: Approve = lambda _: None
) -> None:
    """Run ``count`` annotators until a stop signal, or until all have ended by themselves.

    The first begins the group once its model has answered; the others are started then.

    Args:
        approve: as for :func:`~onibus.consumers.annotator.run.run`; asked once for all.

    Raises:
        OnibusError: one needs a person's help; it has said why.
    """
    set_up_logging(options.verbose)
    offsets = group_offsets(settings, options, approve)
    stopping = stop_event()  # until here signals end it at once, also while a person is asked
    first, *others = worker_options(replace(options, backlog=None), count)
    context = worker_context()
    has_begun, began = context.Pipe(duplex=False)
    workers = [_Worker(context, 0, settings, first, offsets, began)]
    try:
        while not has_begun.poll() and workers[0].look_after() and not stopping.wait(_LOOK_SECONDS):
            pass
        if has_begun.poll():
            workers[0].offsets = GroupOffsets(offsets.group)  # if it is started again
            workers += [
                _Worker(context, number, settings, own, workers[0].offsets, began)
                for number, own in enumerate(others, 1)
            ]
        while workers and not stopping.wait(_LOOK_SECONDS):
            workers = [worker for worker in workers if worker.look_after()]
    finally:
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + options.stop_seconds + _STOP_SECONDS
        for worker in workers:
            worker.end(deadline)


def worker_options(options: AnnotateOptions, count: int) -> Sequence[AnnotateOptions]:
    """The options of each: names get a number, ports count upwards."""
    name = options.name or f"{socket.gethostname()}-{os.getpid()}"
    port = options.metrics_port
    return [
        replace(options, name=f"{name}-{k}", metrics_port=port + k if port else port) for k in range(count)
    ]


@dataclass(slots=True)
class _Worker:
    """One annotator, started again when it dies.

    Attributes:
        offsets: where the group begins, if it has not begun yet; nothing to commit else.
        began: is written to once it has.
    """

    context: BaseContext
    number: int
    settings: Settings
    options: AnnotateOptions
    offsets: GroupOffsets
    began: Connection
    process: BaseProcess = field(init=False)
    due: float | None = None

    def __post_init__(self) -> None:
        self._start()

    def look_after(self) -> bool:
        """Start it again if it has died; whether it has anything left to do.

        Raises:
            OnibusError: it needs a person's help.
        """
        code = self.process.exitcode
        if code is None:
            return True
        if code == SERVER_GONE:
            raise OnibusError(
                "the process that all annotators are forked from was killed, so they stop; start again"
            )
        if code == 0:  # its budget is spent
            return False
        if code == _NEEDS_HELP:
            raise OnibusError(f"annotator {self.options.name} ended, see above; the others were stopped")
        if self.due is None:
            _log.warning("annotator %s died (%d); starting it again", self.options.name, code)
            self.due = time.monotonic() + _RESTART_SECONDS
        if time.monotonic() > self.due:
            self._start()
        return True

    def end(self, deadline: float) -> None:
        """Wait for its end; kill it at the deadline."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.exitcode is None:
            _log.warning("annotator %s did not stop in time and was killed", self.options.name)
            self.process.kill()
            self.process.join()

    def _start(self) -> None:
        self.due = None
        given = self.settings, self.options, self.offsets, self.began
        # vLLM in a worker has processes of its own, which a daemon may not have.
        self.process = start_worker(self.context, f"annotator-{self.number}", _work, *given, daemon=False)


def _work(settings: Settings, options: AnnotateOptions, offsets: GroupOffsets, began: Connection) -> None:
    end_with_parent()
    try:
        run(settings, options, offsets=offsets, began=lambda: began.send(True))
    except OnibusError as error:
        echo(f"onibus: {error}", err=True)
        sys.exit(_NEEDS_HELP)
    except (KafkaError, ConnectionError, TimeoutError) as error:
        echo(f"onibus: {explained(settings, error)}", err=True)
        sys.exit(_MAY_PASS)
