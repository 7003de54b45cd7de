"""The options of a learning run by what they are about; each is a flag of ``onibus learn``, too.

The default of a field is what a run did that began before the field existed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from onibus.infra.errors import OnibusError
from onibus.infra.flags import Flag

Reward = Literal["retrieval", "classification", "ranking", "motif", "similarity", "none"]
"""The names in :data:`onibus.infra.reward_kinds.REWARD_KINDS`."""

BY_TASK = "by task"
"""What the help says of defaults in :func:`defaults_for`."""


class SpecShare(BaseModel):
    """One annotation specification of the reward, and its coefficient c_spec."""

    model_config = ConfigDict(frozen=True)

    name: str
    coefficient: float


def parse_spec_share(text: str, default_coefficient: float) -> SpecShare:
    """``NAME`` or ``NAME=COEFFICIENT`` from the command line.

    Raises:
        OnibusError: the coefficient is not a number.
    """
    name, _, coefficient = text.partition("=")
    try:
        value = float(coefficient) if coefficient else default_coefficient
    except ValueError as error:
        raise OnibusError(
            f"--spec {text}: {coefficient!r} is not a number; write --spec NAME or --spec NAME=0.4"
        ) from error
    return SpecShare(name=name, coefficient=value)


DEFAULT_TASK = "keyroom-s5"
DEFAULT_REWARD: Reward = "retrieval"


class RunOptions(BaseModel):
    """What is played, and where."""

    task: str = Field(
        DEFAULT_TASK,
        description="score, oracle, staircase, gold, scout, keyroom-s5 or any other MiniHack environment.",
    )
    seed: int = Field(0, description="Seed of the run.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Where the network is trained.")
    serial: bool = Field(False, description="Run everything in one process, for debugging.")
    captions: bool = Field(
        True, description="Publish and reward captions; without them, a run is a baseline of speed."
    )


class RewardOptions(BaseModel):
    """What is rewarded.

    The reward of a step is ``c_ext * r_ext + sum over specs of c_spec * r_int(caption) / N ** beta``,
    N being how often the caption has come up in the episode so far.
    """

    model_config = ConfigDict(title="Reward")

    reward: Reward = Field(
        DEFAULT_REWARD,
        description="retrieval (labels); classification or ranking (a model of onibus train-reward); "
        "motif (a frozen model, see --motif-model); similarity (to the goal, see --embedding); or none.",
    )
    reward_threshold: float | None = Field(
        None,
        description="Score above which a caption is rewarded. (default: classification p(helpful) 0.5; "
        "ranking and motif 0 deviations above the mean; similarity cosine 0)",
    )
    motif_model: str | None = Field(
        None, description="For motif: file of a ranking model, or its name on the bus."
    )
    embedding: str = Field(
        "hashed",
        description="For similarity: hashed, a file of word vectors, or sentence-transformers:MODEL.",
    )
    specs: Annotated[tuple[SpecShare, ...], Flag("--spec", repeated=True, default=BY_TASK)] = Field(
        (), description="Annotation spec, NAME or NAME=COEFFICIENT; can be repeated to mix specs."
    )
    extrinsic_coefficient: Annotated[float, Flag(default=BY_TASK)] = Field(
        description="Coefficient of the task's own reward; 0 for reward-free."
    )
    count_beta: float = Field(3.0, description="Exponent of a caption's count in its episode.")


class PolicyOptions(BaseModel):
    """How the policy learns."""

    model_config = ConfigDict(title="Learning")

    network: Literal["small", "full"] = Field(
        "small", description="small (for CPUs) or full (sees map and message, with a GRU)."
    )
    learning_rate: Annotated[float, Flag(default=BY_TASK)] = Field(
        gt=0, description="Learning rate of the policy."
    )
    discount: Annotated[float, Flag(default=BY_TASK)] = Field(gt=0, lt=1, description="Discount factor.")
    entropy: Annotated[float, Flag(default=BY_TASK)] = Field(
        ge=0, description="Coefficient of the entropy bonus."
    )
    vtrace: bool = Field(False, description="Use V-trace instead of GAE.")
    epochs: int = Field(1, ge=1, description="Times that each batch is learned from.")
    gradient_norm: float = Field(4.0, description="Largest norm of a gradient; a larger one is scaled down.")


class SizeOptions(BaseModel):
    """How large the run is, and when it ends."""

    model_config = ConfigDict(title="Size and length")

    workers: int = Field(2, ge=1, description="Number of rollout worker processes.")
    environments: int = Field(16, ge=1, description="Environments per worker.")
    rollout: int = Field(32, ge=2, description="Steps per rollout.")
    batch_size: int = Field(1024, ge=32, description="Transitions per batch.")
    max_episode_steps: int | None = Field(
        None, ge=1, description="Step limit of an episode. (default: the task's own)"
    )
    steps: int | None = Field(None, ge=1, description="Stop after this many steps in all.")
    until_return: float | None = Field(
        None, description="Stop once the mean return of 100 episodes reaches this."
    )
    seconds: float | None = Field(None, gt=0, description="Stop after this many seconds.")
    checkpoint_seconds: int = Field(60, ge=1, description="Seconds between two checkpoints.")
