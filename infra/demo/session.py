"""One demo from its start to its clean end: broker, topics, annotators, learner, and the view of them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from onibus.infra.broker import BrokerOptions, broker_status, start_broker, stop_broker
from onibus.infra.demo.curve import CURVE_POINTS
from onibus.infra.demo.game import GameFeed, GameMoment
from onibus.infra.demo.live_view import Heading, print_line, render
from onibus.infra.demo.next_steps import web_command
from onibus.infra.demo.snapshot import Snapshot, take_snapshot
from onibus.infra.demo.watch import Watch
from onibus.infra.errors import OnibusError
from onibus.infra.files import RowFile, SideFile
from onibus.infra.kafka.lag import ConsumerLag
from onibus.infra.kafka.topic_admin import create_topics, require_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.observability.scraping import scrape
from onibus.infra.process.components import Component, Supervisor
from onibus.infra.process.terminal import console
from onibus.infra.reward_kinds import reward_kind
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.infra.vllm.server import READY_SECONDS as SERVER_READY_SECONDS
from onibus.infra.vllm.server import VllmServer

SYSTEM_FILE = "system.jsonl"
ANNOTATORS_READY_SECONDS = 120.0
TRAINER_READY_SECONDS = 120.0
LEARNER_READY_SECONDS = 180.0
SNAPSHOT_SECONDS = 1.0
FRAME_SECONDS = 0.25
"""Between two pictures of the game that the live view shows."""
PICTURE_SIZE = (132, 40)
LINE_EVERY = 10
"""Snapshots between two lines when the output is no terminal."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a demo runs: ``judge`` are flags of ``onibus annotate``, ``learner`` those of ``onibus learn``."""

    run: str
    task: str
    reward: str
    spec: str
    spec_name: str
    judge_name: str
    judge: tuple[str, ...]
    learner: tuple[str, ...]
    watch: Watch
    annotators: int
    broker_port: int
    server: VllmServer | None = None
    """A vLLM server that runs with the demo, for its annotators."""


class Demo:
    """A context: entering starts everything, leaving stops everything, however it was left."""

    def __init__(
        self, settings: Settings, options: DemoOptions, shown_on: Console, stopping: threading.Event
    ) -> None:
        self.settings, self.options = settings, options
        self._console, self._stopping = shown_on, stopping
        self._own_broker = False
        self._supervisor = Supervisor({})
        self._learner: Component | None = None
        self._annotator_ports: list[int] = []
        self._trainer_ports: list[int] = []
        self._learner_port = 0
        self._lag: ConsumerLag | None = None
        self._game: GameMoment | None = None
        self._inside = ""
        self.history: deque[Snapshot] = deque(maxlen=CURVE_POINTS)
        self.killed: list[str] = []

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.settings.runs_dir / self.options.run

    @property
    def broker_folder(self) -> Path:
        """Where the demo's own broker keeps its data."""
        return self.settings.runs_dir / "broker"

    @property
    def own_broker(self) -> tuple[Path, int] | None:
        """Data folder and port of the broker that the demo started; None if it uses another one."""
        return (self.broker_folder, self.options.broker_port) if self._own_broker else None

    def __enter__(self) -> Demo:
        try:
            self._start_bus()
            self._start_components()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def watch(self, games: GameFeed | None = None) -> None:
        """Show the view until enough was seen, the learner has finished, or a stop was asked for.

        Args:
            games: of the run, to be shown as well.

        Raises:
            ComponentDiedError: one of the components did.
        """
        self._inside = web_command(self.settings)
        self._say(f"to look inside meanwhile, type in another terminal: {self._inside}")
        began = time.monotonic()
        rows, kept = RowFile(self.folder / SYSTEM_FILE), SideFile(f"{self.folder / SYSTEM_FILE}")
        view = Live(console=self._console, screen=True, auto_refresh=False)
        shown = view if self._console.is_terminal else contextlib.nullcontext()
        with contextlib.closing(rows), _following(games), shown as live:
            for number in range(10**9):
                seconds = time.monotonic() - began
                snapshot = self._snapshot(seconds)
                self.history.append(snapshot)
                kept.attempt(partial(rows.append, snapshot.to_json()))
                if live is None and number % LINE_EVERY == 0:
                    print_line(self._console, snapshot)
                enough = self.options.watch.is_over(seconds, snapshot.episode_return)
                if enough or self._stopping.is_set() or self._learner_finished():
                    return
                self._supervisor.check()
                self._show(live, games)

    def _show(self, live: Live | None, games: GameFeed | None) -> None:
        """Keep the view up to date until the next snapshot is due."""
        heading = self._heading()
        until = time.monotonic() + SNAPSHOT_SECONDS
        while not self._stopping.is_set() and time.monotonic() < until:
            self._game = None if games is None else games.moment()
            if live is not None:
                view = render(heading, self.history, self._states(), self._console.size, self._game)
                live.update(view, refresh=True)
            self._stopping.wait(FRAME_SECONDS if self._game is not None else SNAPSHOT_SECONDS)

    def picture(self, path: Path) -> None:
        """Keep the view as it is now as an SVG picture."""
        canvas = console(record=True, width=PICTURE_SIZE[0], height=PICTURE_SIZE[1], file=io.StringIO())
        canvas.print(render(self._heading(), self.history, self._states(), PICTURE_SIZE, self._game))
        try:
            canvas.save_svg(str(path), title="onibus demo")
        except OSError as error:
            raise OnibusError(f"cannot write {path}: {error.strerror}; choose another --picture") from error

    def stop_components(self) -> None:
        """Stop learner and annotators; the broker stays for the summary."""
        with self._console.status("stopping what judges and learns …"):
            self.killed += self._supervisor.stop()

    def close(self) -> None:
        """Stop whatever still runs, broker included if the demo started it. Data stay."""
        self.killed += self._supervisor.stop()
        if self._lag is not None:
            self._lag.close()
            self._lag = None
        if self._own_broker:
            stop_broker(self.broker_folder)
            self._own_broker = False

    def _start_bus(self) -> None:
        if "bootstrap_servers" not in self.settings.model_fields_set:
            self.settings = self._with_local_broker()
        created = create_topics(self.settings)
        require_topics(self.settings)
        self._say(f"topics: {len(created)} created" if created else "topics: there already")

    def _with_local_broker(self) -> Settings:
        running = broker_status(self.broker_folder)
        if running is None or not running.running:
            began = time.monotonic()
            with self._console.status("starting Apache Kafka (the first time it is fetched, 44 MB) …"):
                running = start_broker(
                    BrokerOptions(
                        self.broker_folder,
                        port=self.options.broker_port,
                        port_flag="--broker-port",
                        folder_flag="--runs-dir",
                        stays=False,
                    )
                )
            self._own_broker = True
            self._say(
                f"broker: Apache Kafka at {running.bootstrap_servers}, up in {time.monotonic() - began:.1f} s"
            )
        else:
            self._say(f"broker: the one that runs at {running.bootstrap_servers}")
        given = {name: getattr(self.settings, name) for name in self.settings.model_fields_set}
        kept = {name: given[name] for name in ("replication",) if name in given}
        return load_settings(**given | running.client_settings() | kept)

    def _start_components(self) -> None:
        self._supervisor = Supervisor(environment_of(self.settings))
        logs = self.folder / "logs"
        if self.options.server is not None:
            self._start_server(self.options.server, logs / "vllm-server.log")
        names = [f"annotator-{n + 1}" for n in range(self.options.annotators)]
        self._annotator_ports = [free_port() for _ in names]
        self._learner_port = free_port()
        group = f"demo-annotators-{Path(self.options.spec).stem}"
        if reward_kind(self.options.reward).annotators:
            annotators = [
                Component(
                    name,
                    [
                        *("annotate", "--spec", self.options.spec, "--name", name, "--group", group),
                        *("--metrics-port", str(port), "--task", self.options.task),
                        *self.options.judge,
                    ],
                    logs / f"{name}.log",
                )
                for name, port in zip(names, self._annotator_ports, strict=True)
            ]
            self._start(annotators, "annotators", ANNOTATORS_READY_SECONDS)
            self._say(f"annotators: {len(annotators)}, judged by {self.options.judge_name}")
            prefix = self.settings.topic_prefix
            self._lag = ConsumerLag(self.settings, f"{prefix}{group}", TopicNames(prefix).captions)
        if reward_kind(self.options.reward).trainer:
            self._start_trainer(logs / "trainer.log")
        self._learner = Component(
            "learner",
            [
                *("learn", "--task", self.options.task, "--run", self.options.run),
                *("--reward", self.options.reward, "--metrics-port", str(self._learner_port)),
                *self.options.learner,
            ],
            logs / "learner.log",
        )
        self._start([self._learner], "the learner and its rollout workers", LEARNER_READY_SECONDS)

    def _start(self, components: list[Component], what: str, seconds: float) -> None:
        self._supervisor.start(components)
        with self._console.status(Text(f"starting {what} …")):
            self._supervisor.wait_ready(seconds, self._stopping)

    def _start_server(self, server: VllmServer, log_path: Path) -> None:
        """First of all: annotators end when they find no model."""
        began = time.monotonic()
        what = f"a vLLM server with {server.name}"
        self._start([server.component(log_path)], what, SERVER_READY_SECONDS)
        self._say(f"vLLM server: {server.name} at {server.base_url}, up in {time.monotonic() - began:.0f} s")

    def _start_trainer(self, log_path: Path) -> None:
        """After the annotators, which announce the specification that it learns from."""
        self._trainer_ports = [free_port()]
        command = ["train-reward", "--spec", self.options.spec_name]
        trainer = Component("trainer", [*command, "--metrics-port", str(self._trainer_ports[0])], log_path)
        self._start([trainer], "the reward trainer", TRAINER_READY_SECONDS)
        self._say("reward trainer: ready")

    def _heading(self) -> Heading:
        options = self.options
        return Heading(options.task, options.reward, options.judge_name, options.watch, self._inside)

    def _snapshot(self, seconds: float) -> Snapshot:
        lag = None if self._lag is None else self._lag.total()
        return take_snapshot(
            seconds,
            scrape([self._learner_port]),
            scrape(self._annotator_ports),
            scrape(self._trainer_ports),
            lag,
        )

    def _states(self) -> list[tuple[str, str]]:
        broker = ("Kafka broker" if self._own_broker else "Kafka broker found", "running")
        return [broker, *((c.name, "ready" if c.ready else "starting") for c in self._supervisor.components)]

    def _learner_finished(self) -> bool:
        return self._learner is not None and self._learner.finished()

    def _say(self, line: str) -> None:
        self._console.print(Text.assemble(("✓", "green"), f" {line}"), soft_wrap=True)


@contextmanager
def _following(games: GameFeed | None) -> Iterator[None]:
    if games is None:
        yield
        return
    games.start()
    try:
        yield
    finally:
        games.stop()


def free_port() -> int:
    """A port of this machine that no one uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def one_at_a_time(runs_dir: Path) -> Iterator[None]:
    """Hold the runs folder for one demo; the lock goes with the process, whatever ends it.

    Raises:
        OnibusError: another demo runs, or the folder cannot be written.
    """
    path = runs_dir / "demo.lock"
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise OnibusError(f"cannot write {runs_dir}: {error.strerror}; choose another --runs-dir") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OnibusError(
                f"a demo runs already with its files in {runs_dir}; stop it, or use another --runs-dir"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
