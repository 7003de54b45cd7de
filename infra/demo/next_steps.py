"""Where to look when a demo has ended: commands that work as they are when they are pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from onibus.infra.settings import DEFAULT_PORT, Settings, load_settings


def next_steps(
    settings: Settings, run: str, *, has_policy: bool, own_broker: tuple[Path, int] | None
) -> list[tuple[str, str]]:
    """What each is for, and the command.

    Args:
        settings: those that the demo had.
        has_policy: whether there is a checkpoint to play.
        own_broker: data folder and port of a broker that ended with the demo; None: another one was used.
    """
    usual, onibus = load_settings(), program("onibus")
    runs, bus = _runs_flag(settings, usual), _bus_flag(settings, usual)
    policy = [
        ("see it play", shlex.join((onibus, "watch", run, *runs, *bus))),
        ("measure it", shlex.join((onibus, "evaluate", run, "--episodes", "100", *runs))),
    ]
    return [
        *(_broker_again(onibus, usual, *own_broker) if own_broker else ()),
        *(policy if has_policy else ()),
        ("labels, runs, episodes", web_command(settings)),
        ("report again", shlex.join((onibus, "report", run, *runs, *bus))),
        ("TensorBoard", shlex.join((program("tensorboard"), "--logdir", str(settings.runs_dir / run)))),
    ]


def web_command(settings: Settings) -> str:
    """What serves the site of a system with these settings."""
    usual = load_settings()
    return shlex.join((program("onibus"), "web", *_runs_flag(settings, usual), *_bus_flag(settings, usual)))


def _runs_flag(settings: Settings, usual: Settings) -> tuple[str, ...]:
    return () if settings.runs_dir == usual.runs_dir else ("--runs-dir", str(settings.runs_dir))


def _bus_flag(settings: Settings, usual: Settings) -> tuple[str, ...]:
    same = settings.bootstrap_servers == usual.bootstrap_servers
    return () if same else ("--bootstrap-servers", settings.bootstrap_servers)


def _broker_again(onibus: str, usual: Settings, folder: Path, port: int) -> list[tuple[str, str]]:
    data = () if folder == usual.runs_dir / "broker" else ("--data-dir", str(folder))
    listens = () if port == DEFAULT_PORT else ("--port", str(port))
    return [("the bus again", shlex.join((onibus, "broker", "start", *data, *listens)))]


def program(name: str) -> str:
    """How a program of this Python environment is typed here: by name if the shell finds it, else by path."""
    ours = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not ours.exists() or (found is not None and os.path.samefile(found, ours)):
        return name
    below = ours.is_relative_to(Path.cwd())
    return str(ours.relative_to(Path.cwd()) if below else ours)
