"""Metrics read from other processes, and what the demo's view makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from rich.console import Console

from onibus.infra.demo.live_view import Heading, _one_line, render
from onibus.infra.demo.snapshot import UNKNOWN, labels_at_start, take_snapshot
from onibus.infra.demo.watch import Watch
from onibus.infra.observability.scraping import Scrape, scrape
from tests.ports import free_port


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """Two annotators that serve metrics."""
    servers, ports = [], []
    for labels, latencies in ((3, [0.04, 0.04]), (4, [0.04, 0.4])):
        registry = CollectorRegistry()
        written = Counter("onibus_labels_written", "…", ["spec", "verdict"], registry=registry)
        written.labels("goals", "helpful").inc(labels)
        written.labels("goals", "unsure").inc()
        latency = Histogram(
            "onibus_label_latency_seconds", "…", ["spec"], buckets=(0.05, 0.1, 0.5), registry=registry
        )
        for seconds in latencies:
            latency.labels("goals").observe(seconds)
        Gauge("onibus_environment_steps", "…", registry=registry).set(500)
        port = free_port()
        server, _ = start_http_server(port, "127.0.0.1", registry=registry)
        servers.append(server)
        ports.append(port)
    yield ports
    for server in servers:
        server.shutdown()


def test_counters_of_several_processes_add_up(ports: list[int]) -> None:
    found = scrape(ports)
    assert found.total("onibus_labels_written_total") == 9
    assert found.total("onibus_labels_written_total", verdict="helpful") == 7


def test_quantiles_are_bounds_of_buckets_over_all_processes(ports: list[int]) -> None:
    found = scrape(ports)
    assert found.quantile("onibus_label_latency_seconds", 0.5) == 0.05
    assert found.quantile("onibus_label_latency_seconds", 0.95) == 0.5
    assert found.quantile("onibus_model_seconds", 0.5) is None


def test_a_process_that_does_not_answer_is_left_out(ports: list[int]) -> None:
    assert scrape([free_port(), ports[0]]).total("onibus_labels_written_total") == 4


def test_before_the_learner_has_stepped_its_figures_are_unknown_not_zero(ports: list[int]) -> None:
    snapshot = take_snapshot(1.0, Scrape(), scrape(ports), Scrape(), lag=None)
    assert math.isnan(snapshot.episode_return)
    assert math.isnan(snapshot.consumer_lag)
    assert "episode_return" not in snapshot.to_json()
    assert snapshot.labels_written == 9


def test_labels_that_are_written_before_the_first_look_are_not_there_at_the_start() -> None:
    first = replace(UNKNOWN, labels_known=18.0, labels_written=18.0)
    assert labels_at_start([UNKNOWN, first]) == 0
    assert labels_at_start([replace(first, labels_written=1.0), first]) == 17
    assert labels_at_start([replace(first, labels_written=19.0)]) == 0, "the learner lags behind"
    assert math.isnan(labels_at_start([UNKNOWN]))


def test_the_share_of_answers_that_cannot_be_read_is_shown() -> None:
    calls = {("answered", 6.0), ("unreadable", 2.0), ("refused", 0.0)}
    annotators = Scrape(
        {("onibus_model_calls_total", (("outcome", name), ("spec", "goals"))): n for name, n in calls}
    )
    snapshot = take_snapshot(2.0, Scrape(), annotators, Scrape(), lag=3)
    assert snapshot.unreadable_share == 0.25
    assert "unreadable 25%" in _one_line(snapshot)
    console = Console(width=120, height=30, record=True)
    heading = Heading("keyroom-s5", "retrieval", "m", Watch(240.0))
    console.print(render(heading, [snapshot], [("learner", "ready")], (120, 30)))
    shown = console.export_text()
    assert "25%" in shown
    assert "label latency p50" in shown, "the row below it has room"


def test_the_view_is_drawn_from_the_first_moment_on(ports: list[int]) -> None:
    heading = Heading("keyroom-s5", "retrieval", "rules", Watch(240.0))
    snapshot = take_snapshot(2.0, scrape(ports[:1]), scrape(ports), Scrape(), lag=3)
    for history in ([], [snapshot], [snapshot] * 5):
        console = Console(width=120, height=30, record=True)
        console.print(render(heading, history, [("learner", "ready")], (120, 30)))
        assert "keyroom-s5" in console.export_text()
    assert "labels 9" in _one_line(snapshot)
    assert "–" in _one_line(UNKNOWN)
