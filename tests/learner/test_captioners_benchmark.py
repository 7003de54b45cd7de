"""The benchmark of captioners plays the same games with each."""

from __future__ import annotations

import pytest

from onibus.infra.errors import OnibusError
from onibus.learner.benchmarks.captioners import measure


def test_each_captioner_has_its_figures_of_the_same_play() -> None:
    figures = measure("score", 6_000, ["message", "message", "message-and-changes"])
    distinct = [figure.value for figure in figures if "distinct captions in 6,000 steps" in figure.name]
    shares = [figure.value for figure in figures if "have a caption" in figure.name]
    assert distinct[0] == distinct[1] <= distinct[2]
    assert shares[0] == shares[1] <= shares[2] < 1


def test_a_captioner_that_is_unknown_is_refused() -> None:
    with pytest.raises(OnibusError, match="there is no captioner 'messages'"):
        measure("score", 1_000, ["message", "messages"])
