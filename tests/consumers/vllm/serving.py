"""A real vLLM server for tests: started as the demo does it, killed, started again."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil

from onibus.infra.process.components import Component
from onibus.infra.vllm.server import READY_SECONDS, VllmServer


class RunningServer:
    """A server of one model on one port."""

    def __init__(self, server: VllmServer, folder: Path) -> None:
        self.server, self._folder = server, folder
        self._component: Component | None = None
        self._starts = 0

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._starts += 1
        self._component = self.server.component(self._folder / f"server-{self._starts}.log")
        self._component.start({"CUDA_VISIBLE_DEVICES": ""})
        self._component.wait_ready(READY_SECONDS, threading.Event())

    def kill(self) -> None:
        """``kill -9`` of the server's own process, and of nothing else."""
        assert self._component is not None
        assert self._component.process is not None
        os.kill(self._component.process.pid, signal.SIGKILL)

    def stop(self) -> bool:
        """Stop it as the demo does; whether it went by itself."""
        assert self._component is not None
        self._component.ask_to_stop()
        return self._component.wait_stopped(30)

    def processes(self) -> list[psutil.Process]:
        """What lives in the server's session: itself, its engine, and whatever they started."""
        assert self._component is not None
        assert self._component.process is not None
        session = self._component.process.pid
        return [p for p in psutil.process_iter() if _is_alive_in(p, session)]


def _is_alive_in(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False
