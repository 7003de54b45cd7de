"""Supervised processes: waited for, stopped completely, and noticed when they die."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.process.components import Component, ComponentDiedError, Supervisor

pytestmark = pytest.mark.integration


@pytest.fixture
def started() -> Iterator[list[Component]]:
    components: list[Component] = []
    yield components
    for component in components:
        component.ask_to_stop()
        component.wait_stopped(1)


def component(tmp_path: Path, name: str, script: str) -> Component:
    """A component whose ``onibus`` command is replaced by ``script``, run by the same interpreter."""
    folder = tmp_path / name / "onibus"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(script)
    return Component(name, (), tmp_path / f"{name}.log")


def start(tmp_path: Path, it: Component) -> None:
    it.start({"PYTHONPATH": str(tmp_path / it.name), "PYTHONSAFEPATH": "1"})


READY = "import sys, time; print('ready: it is up', flush=True); time.sleep(60)"


def test_it_is_ready_when_it_says_so(tmp_path: Path, started: list[Component]) -> None:
    it = component(tmp_path, "good", READY)
    started.append(it)
    start(tmp_path, it)
    it.wait_ready(20, threading.Event())
    assert it.ready
    it.check()


def test_another_program_is_ready_when_its_check_says_so_and_has_its_own_variables(
    tmp_path: Path, started: list[Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_FOR_IT", "1")
    script = "import os, sys, time; open(sys.argv[1], 'w').write(str(sorted(os.environ))); time.sleep(60)"
    mark = tmp_path / "mark"
    it = Component(
        *("other", (script, str(mark)), tmp_path / "other.log"),
        program=(sys.executable, "-c"),
        variables={"FOR_IT": "1", "NOT_FOR_IT": None},
        is_up=lambda: mark.exists() and mark.stat().st_size > 0,
    )
    started.append(it)
    it.start({})
    it.wait_ready(20, threading.Event())
    assert "'FOR_IT'" in mark.read_text()
    assert "NOT_FOR_IT" not in mark.read_text()


def test_one_that_dies_is_named_with_its_last_lines(tmp_path: Path, started: list[Component]) -> None:
    it = component(tmp_path, "bad", "import sys; print('no such model'); sys.exit(3)")
    started.append(it)
    start(tmp_path, it)
    with pytest.raises(ComponentDiedError, match=r"bad ended with exit code 3[\s\S]*no such model"):
        it.wait_ready(20, threading.Event())


def test_one_that_is_never_ready_is_given_up(tmp_path: Path, started: list[Component]) -> None:
    it = component(tmp_path, "slow", "import time; print('still thinking', flush=True); time.sleep(60)")
    started.append(it)
    start(tmp_path, it)
    with pytest.raises(OnibusError, match=r"not ready within 1 s"):
        it.wait_ready(1, threading.Event())


def test_waiting_ends_when_a_stop_is_asked_for(tmp_path: Path, started: list[Component]) -> None:
    it = component(tmp_path, "slow", "import time; time.sleep(60)")
    started.append(it)
    start(tmp_path, it)
    stopping = threading.Event()
    stopping.set()
    it.wait_ready(60, stopping)
    assert not it.ready


def test_children_of_a_component_end_with_it(tmp_path: Path, started: list[Component]) -> None:
    script = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; "
        "time.sleep(60)']); print('ready: child', child.pid, flush=True); time.sleep(60)"
    )
    it = component(tmp_path, "parent", script)
    started.append(it)
    start(tmp_path, it)
    it.wait_ready(20, threading.Event())
    child = psutil.Process(int(it.log_path.read_text().split()[-1]))
    it.ask_to_stop()
    it.wait_stopped()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_that_ignores_the_signal_is_killed_and_reported(tmp_path: Path, started: list[Component]) -> None:
    script = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{READY}"
    it = component(tmp_path, "deaf", script)
    started.append(it)
    start(tmp_path, it)
    it.wait_ready(20, threading.Event())
    it.ask_to_stop()
    assert not it.wait_stopped(0.5)


def test_a_supervisor_asks_all_at_once_and_then_those_that_serve_them(tmp_path: Path) -> None:
    """Each of two ends only once both have been asked, and what serves them is asked when both have ended."""
    script = (
        "import os, pathlib, signal, sys, time\n"
        f"folder, me = pathlib.Path({str(tmp_path)!r}), os.environ['ME']\n"
        "others = {'first': ['second.asked'], 'second': ['first.asked']}.get(me, [])\n"
        "def end(*_):\n"
        "    (folder / f'{me}.asked').touch()\n"
        "    while not all((folder / name).exists() for name in others): time.sleep(0.01)\n"
        "    (folder / 'order').open('a').write(f'{me}\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready: up', flush=True); time.sleep(60)"
    )
    supervisor = Supervisor({"PYTHONSAFEPATH": "1"})
    for name in ("server", "first", "second"):
        it = component(tmp_path, name, script)
        it.variables = {"ME": name, "PYTHONPATH": str(tmp_path / name)}
        it.serves_others = name == "server"
        supervisor.start([it])
    supervisor.wait_ready(20, threading.Event())
    assert supervisor.stop() == []
    assert supervisor.components == []
    order = (tmp_path / "order").read_text().split()
    assert order[-1] == "server"
    assert sorted(order) == ["first", "second", "server"]
