"""The benchmark of a step's parts: both sides do the same."""

from __future__ import annotations

import torch

from onibus.learner.benchmarks.step_parts import ROWS, _made, _plain, _played, measure
from onibus.learner.large_layers import LargeLinear, ManyLookups
from onibus.learner.networks import MediumEncoder


def test_the_plain_network_has_pytorchs_layers_and_the_same_results() -> None:
    network, seen = _made(MediumEncoder), _played(ROWS)
    ours = network(seen).detach()
    assert any(isinstance(layer, LargeLinear | ManyLookups) for layer in network.modules())
    plain = _plain(network)
    assert not any(isinstance(layer, LargeLinear | ManyLookups) for layer in plain.modules())
    torch.testing.assert_close(ours, plain(seen).detach(), rtol=1e-4, atol=1e-4)


def test_each_part_has_both_times_and_their_ratio() -> None:
    figures = measure(1)
    assert [figure.unit for figure in figures].count("ratio") == len(figures) / 3
    assert all(figure.value > 0 for figure in figures)
