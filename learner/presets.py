"""Options as they were published, by the name of the program: ``onibus learn --preset``.

Coefficients of the extrinsic reward are not among them: those of the tasks are the published ones already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """Options, and the coefficient of the intrinsic reward, c_int."""

    options: Mapping[str, Any]
    intrinsic_coefficient: float


_ONI: Mapping[str, Any] = {
    "network": "full",
    "rnn": "gru",
    "rnn_size": 512,
    "vtrace": True,
    "rollout": 32,
    "batch_size": 1024,
    "epochs": 1,
    "learning_rate": 1e-4,
    "discount": 0.99,
    "ppo_clip": 0.1,
    "value_clip": 1.0,
    "value_coefficient": 0.5,
    "entropy": 0.003,
    "gradient_norm": 4.0,
    "adam_epsilon": 1e-6,
    "extrinsic_scale": 1.0,
    "extrinsic_clip": 10.0,
    "count_beta": 3.0,
    "workers": 24,
    "environments": 20,
    "steps": 2_000_000_000,
    "episodes_averaged": 100,
}

PRESETS: Mapping[str, Preset] = {
    "oni": Preset(_ONI, intrinsic_coefficient=0.4),
    "motif": Preset(
        {
            **_ONI,
            "reward": "motif",
            "batch_size": 4096,
            "extrinsic_scale": 0.1,
            "episodes_averaged": 1000,
        },
        intrinsic_coefficient=0.1,
    ),
}
"""ONI (arXiv 2410.23022) and Motif (arXiv 2310.00166), as their programs were released."""
