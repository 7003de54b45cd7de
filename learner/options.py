"""What a learning run is: its options, their defaults by task, and how they are kept with the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of, write_whole
from onibus.infra.reward_kinds import RewardKind, reward_kind

OPTIONS_FILE = "options.json"


Reward = Literal["retrieval", "classification", "ranking", "motif", "similarity", "none"]
"""The names in :data:`onibus.infra.reward_kinds.REWARD_KINDS`."""

PAIRS = "-pairs"
"""Ends the name of a specification that compares two captions for the goal of another."""

COMPARED_SHARE = 0.2
"""Of the usual coefficient: normalised scores of good captions lie near 3 to 5, not at 1."""


class SpecShare(BaseModel):
    """One annotation specification of the reward, and its coefficient c_spec."""

    model_config = ConfigDict(frozen=True)

    name: str
    coefficient: float


class LearnOptions(BaseModel):
    """Options of one run of Sample Factory APPO with intrinsic reward.

    The reward of a step is ``c_ext * r_ext + sum over specs of c_spec * r_int(caption) / N ** beta``,
    N being how often the caption has come up in the episode so far.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    task: str
    reward: Reward = "retrieval"
    specs: tuple[SpecShare, ...] = ()
    reward_threshold: float | None = Field(
        None, description="Score above which a model rewards; None for the reward's own."
    )
    motif_model: str | None = Field(None, description="Frozen ranking model: a file, or a name on the bus.")
    embedding: str = Field("hashed", description="Of captions and goals, for similarity.")
    extrinsic_coefficient: float
    count_beta: float = 3.0

    network: Literal["small", "full"] = "small"
    workers: int = Field(2, ge=1)
    environments: int = Field(16, ge=1, description="Environments of each worker.")
    rollout: int = Field(32, ge=2)
    batch_size: int = Field(1024, ge=32)
    epochs: int = Field(1, ge=1)
    learning_rate: float = Field(gt=0)
    discount: float = Field(gt=0, lt=1)
    entropy: float = Field(ge=0)
    gradient_norm: float = 4.0
    vtrace: bool = False
    max_episode_steps: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1, description="Stop after this many environment steps in all.")
    until_return: float | None = Field(None, description="Stop once the mean return of 100 episodes is this.")
    seconds: float | None = Field(None, gt=0, description="Stop after this many seconds of training.")
    seed: int = 0
    device: Literal["cpu", "gpu"] = "cpu"
    serial: bool = Field(False, description="Everything in one process; for tests and debugging.")
    checkpoint_seconds: int = Field(60, ge=1)
    captions: bool = Field(True, description="False leaves out all caption work: the benchmark's baseline.")

    @model_validator(mode="after")
    def _motif_has_its_model(self) -> LearnOptions:
        if self.reward == "motif" and not self.motif_model:
            raise ValueError("motif needs --motif-model: a file of onibus replay train, or a model's name")
        return self

    @property
    def kind(self) -> RewardKind:
        """What the reward needs, and what its scores mean."""
        return reward_kind(self.reward)

    @property
    def threshold(self) -> float:
        """Score above which a model rewards: p(helpful), or standard deviations, or a cosine."""
        return self.kind.threshold if self.reward_threshold is None else self.reward_threshold

    @property
    def recurrent(self) -> bool:
        """Whether the policy has an LSTM."""
        return self.network == "full"


SPARSE_TASKS = ("oracle", "staircase", "staircase-level-3", "staircase-level-4")


def defaults_for(task: str) -> dict[str, Any]:
    """Option defaults by task.

    Full NetHack follows the published ONI settings (arXiv 2410.23022): c_int 0.4, c_ext 0.1 for Score and
    10 where the reward is sparse. MiniHack's small tasks learn faster with a higher rate and discount 0.99.
    """
    if task in ("score", "gold", "scout"):
        return _NETHACK | {"extrinsic_coefficient": 0.1}
    if task in SPARSE_TASKS:
        return _NETHACK | {"extrinsic_coefficient": 10.0}
    return {
        "specs": ({"name": "keys-and-doors", "coefficient": 0.5},),
        "extrinsic_coefficient": 1.0,
        "learning_rate": 5e-4,
        "discount": 0.99,
        "entropy": 0.01,
    }


_NETHACK: dict[str, Any] = {
    "specs": ({"name": "goals", "coefficient": 0.4},),
    "learning_rate": 1e-4,
    "discount": 0.99,
    "entropy": 0.003,
}


def default_specs(task: str, reward: str) -> tuple[SpecShare, ...]:
    """The specification that a task's reward comes from, with its coefficient.

    Raises:
        OnibusError: there is no such reward.
    """
    shares = tuple(SpecShare(**share) for share in defaults_for(task)["specs"])
    if not reward_kind(reward).compares:
        return shares
    return tuple(
        SpecShare(name=f"{s.name}{PAIRS}", coefficient=round(s.coefficient * COMPARED_SHARE, 6))
        for s in shares
    )


def parse_spec_shares(shares: list[str], default_coefficient: float) -> tuple[SpecShare, ...]:
    """``NAME`` or ``NAME=COEFFICIENT`` from the command line.

    Raises:
        OnibusError: the coefficient is no number.
    """
    parsed = []
    for share in shares:
        name, _, coefficient = share.partition("=")
        try:
            value = float(coefficient) if coefficient else default_coefficient
        except ValueError as error:
            raise OnibusError(
                f"--spec {share}: {coefficient!r} is no number; write --spec NAME or --spec NAME=0.4"
            ) from error
        parsed.append(SpecShare(name=name, coefficient=value))
    return tuple(parsed)


def make_options(task: str, **given: Any) -> LearnOptions:
    """Options of a run: what was given (not None) over the task's defaults.

    Raises:
        OnibusError: a value is out of range.
    """
    chosen = defaults_for(task) | {k: v for k, v in given.items() if v is not None}
    if chosen.get("reward") == "none":
        chosen["specs"] = ()
    elif given.get("specs") is None:
        chosen["specs"] = default_specs(task, chosen.get("reward", "retrieval"))
    try:
        return LearnOptions(task=task, **chosen)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + ".".join(str(part) for part in first["loc"]).replace("_", "-")
        raise OnibusError(f"{flag}: {first['msg']}; give another value") from error


def save_options(options: LearnOptions, folder: Path) -> None:
    """Keep the options beside the run's checkpoints.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / OPTIONS_FILE, options.model_dump_json(indent=2) + "\n")


def load_options(folder: Path) -> LearnOptions:
    """The options a run was started with.

    Raises:
        OnibusError: there is no such run, or its file cannot be read.
    """
    try:
        return LearnOptions.model_validate(json.loads((folder / OPTIONS_FILE).read_text()))
    except FileNotFoundError as error:
        raise OnibusError(
            f"no run in {folder}: {OPTIONS_FILE} is missing; give the folder of a run"
        ) from error
    except (OSError, ValueError) as error:
        raise OnibusError(
            f"{folder / OPTIONS_FILE} cannot be read: {reason_of(error)}; was it edited by hand?"
        ) from error
