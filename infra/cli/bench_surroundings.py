"""What a benchmark's command needs around it: a broker of its own, and a way to show its figures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onibus.infra.process.terminal import console, echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.learner.benchmarks.result import Figure

BENCH_PORT = 19292


@contextmanager
def broker_for(settings: Settings, prefix: str) -> Iterator[Settings]:
    """The broker that was named or, if none was, one of our own with data in a temporary folder."""
    from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
    from onibus.infra.kafka.topic_admin import create_topics
    from onibus.infra.settings import load_settings

    given = {name: getattr(settings, name) for name in settings.model_fields_set} | {"topic_prefix": prefix}
    if "bootstrap_servers" in given:
        own = load_settings(**given)
        create_topics(own)
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="onibus-bench-") as folder:
        port_flag = "--bootstrap-servers of a cluster that runs"
        running = start_broker(
            BrokerOptions(
                Path(folder), port=BENCH_PORT, port_flag=port_flag, folder_flag="TMPDIR", stays=False
            )
        )
        try:
            own = load_settings(**given | running.client_settings())
            create_topics(own)
            yield own
        finally:
            stop_broker(Path(folder))


def report(title: str, figures: list[Figure], as_json: bool) -> None:

    from onibus.learner.benchmarks.result import show, to_json

    if as_json:
        echo(json.dumps(to_json(title, figures), indent=2))
    else:
        show(console(markup=True), title, figures)
