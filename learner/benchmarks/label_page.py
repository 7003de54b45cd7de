"""How soon the label page answers: ``onibus labels serve`` itself, asked over HTTP."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import httpx

from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of
from onibus.learner.benchmarks.annotation_log import annotation, publish
from onibus.learner.benchmarks.result import Figure

LIMIT_MS = 200
TIMES = 9
QUERIES: Mapping[str, Mapping[str, str]] = {
    "words of the caption": {"text": "7 gold"},
    "verdict and annotator": {"verdict": "helpful", "annotator": "annotator-1"},
}
_READY_SECONDS = 120.0
_SHOWN_SECONDS = 20.0


def measure(settings: Settings, labels: int) -> list[Figure]:
    """Milliseconds from a filtered question to the end of its answer, on a quiet log and on one that grows.

    After each new annotation the first question finds the board unsorted: the longest one until the new label
    is shown counts, and of several annotations the median.

    Raises:
        OnibusError: the site does not come up.
    """
    own = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}page."})
    create_topics(own)
    publish(own, (annotation(number, labels) for number in range(labels)))
    log = settings.runs_dir / "bench-labels-serve.log"
    site = Component(
        "labels serve", ("labels", "serve", "--port", "0"), log, is_up=lambda: bool(_address(site))
    )
    site.start(environment_of(own))
    try:
        site.wait_ready(_READY_SECONDS, threading.Event())
        with httpx.Client(base_url=_address(site), timeout=_SHOWN_SECONDS) as client:
            figures = [
                Figure.at_most(
                    f"page over HTTP, {labels:,} labels, by {name}",
                    statistics.median(_asked(client, query)[0] for _ in range(TIMES)),
                    "ms",
                    LIMIT_MS,
                )
                for name, query in QUERIES.items()
            ]
            longest = statistics.median(_longest_until_shown(own, client, n, labels) for n in range(TIMES))
    finally:
        site.ask_to_stop()
        site.wait_stopped()
    return [*figures, Figure.at_most("the same just after a new label", longest, "ms", LIMIT_MS)]


def _asked(client: httpx.Client, query: Mapping[str, str]) -> tuple[float, int]:
    """Milliseconds, and how many labels fit."""
    began = time.perf_counter()
    answer = client.get("/labels", params=dict(query)).raise_for_status()
    return 1000 * (time.perf_counter() - began), int(answer.json()["total"])


def _longest_until_shown(settings: Settings, client: httpx.Client, number: int, labels: int) -> float:
    name = f"newcomer-{number}"
    publish(settings, [replace(annotation(number, labels), annotator=name)])
    longest, deadline = 0.0, time.monotonic() + _SHOWN_SECONDS
    while time.monotonic() < deadline:
        took, total = _asked(client, {"annotator": name})
        longest = max(longest, took)
        if total:
            return longest
    raise AssertionError(f"the label of {name} was not shown within {_SHOWN_SECONDS:g} s")


def _address(site: Component) -> str:
    return next((ln for ln in site.log_path.read_text().splitlines() if ln.startswith("http://")), "")
