"""Metrics of another process, read over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(slots=True)
class Scrape:
    """Samples of one or several processes, added up: value by name and labels."""

    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples called ``name`` (a counter's with ``_total``) that have these labels."""
        wanted = set(labels.items())
        return sum(v for (n, held), v in self.samples.items() if n == name and wanted <= set(held))

    def quantile(self, name: str, q: float) -> float | None:
        """Upper bound of the histogram bucket in which quantile ``q`` lies, in its unit; None if empty."""
        buckets: dict[float, float] = {}
        for (sample, labels), value in self.samples.items():
            if sample == f"{name}_bucket":
                bound = float(dict(labels)["le"])
                buckets[bound] = buckets.get(bound, 0.0) + value
        ordered = sorted(buckets.items())
        if not ordered or ordered[-1][1] == 0:
            return None
        return next(bound for bound, count in ordered if count >= q * ordered[-1][1])


def scrape(ports: Iterable[int]) -> Scrape:
    """Metrics of the processes on these ports of this machine; one that does not answer is left out."""
    found = Scrape()
    with httpx.Client(timeout=1.0, trust_env=False) as client:
        for port in ports:
            try:
                text = client.get(f"http://127.0.0.1:{port}/metrics").text
            except httpx.TransportError:
                continue  # starting or stopping; the supervisor watches whether it is alive
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    key = (sample.name, tuple(sorted(sample.labels.items())))
                    found.samples[key] = found.samples.get(key, 0.0) + float(sample.value)
    return found
