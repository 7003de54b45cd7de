"""The options of a learning run by what they are about; each is a flag of ``onibus learn``, too.

The default of a field is what a run did that began before the field existed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from onibus.infra.captioner_names import MESSAGE, check_captioner
from onibus.infra.errors import OnibusError
from onibus.infra.flags import MOST_SEED, Flag
from onibus.infra.reward_kinds import reward_kind
from onibus.producers.nethack.characters import DEFAULT_CHARACTER
from onibus.producers.nethack.task_names import Actions

BY_TASK = "by task"
"""What the help says of defaults in :func:`defaults_for`."""


def _none_for_zero(given: float | None) -> float | None:
    return given or None


class SpecShare(BaseModel):
    """One annotation specification of the reward, and its coefficient c_spec.

    Attributes:
        name: of the specification.
        which: of those with this name: the beginning of an id, or a model; None for the one in use.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    coefficient: float
    which: str | None = None

    @property
    def choice(self) -> str:
        """``NAME`` or ``NAME@WHICH``, as it is typed."""
        return self.name if self.which is None else f"{self.name}@{self.which}"

    def __str__(self) -> str:
        return f"{self.choice}={self.coefficient}"


def parse_spec_share(text: str, default_coefficient: float) -> SpecShare:
    """``NAME`` or ``NAME@WHICH``, each also with ``=COEFFICIENT``, from the command line.

    Raises:
        OnibusError: the coefficient is not a number, or there are two.
    """
    choice, equals, coefficient = text.rpartition("=") if "=" in text else (text, "", "")
    try:
        value = float(coefficient) if equals else default_coefficient
    except ValueError as error:
        raise OnibusError(
            f"--spec {text}: {coefficient!r} is not a number; write --spec NAME or --spec NAME=0.4"
        ) from error
    name, at, which = choice.partition("@")
    if "=" in name:
        raise OnibusError(f"--spec {text}: names have no '='; write --spec NAME or --spec NAME=0.4")
    return SpecShare(name=name, coefficient=value, which=which if at else None)


DEFAULT_TASK = "keyroom-s5"
DEFAULT_REWARD = "retrieval"


class RunOptions(BaseModel):
    """What is played, and where."""

    preset: Literal["oni", "motif"] | None = Field(
        None,
        description="The published options of ONI or of Motif; other flags go over them.",
    )

    task: str = Field(
        DEFAULT_TASK,
        description="score, oracle, staircase, gold, scout, keyroom-s5 or any other MiniHack environment; or "
        "one that a module of yours registers.",
    )
    imports: Annotated[tuple[str, ...], Flag("--import", repeated=True)] = Field(
        (),
        description="Module that registers tasks, or has a reward model's network, see extending.md; can be "
        "repeated.",
    )
    actions: Annotated[Actions | None, Flag(default=BY_TASK)] = Field(
        None,
        description="Actions in NetHack's tasks: oni (28: NLE's and casting, drinking, praying, picking up, "
        "paying) or nle (its 23).",
    )
    character: str | None = Field(
        None,
        description="Who plays NetHack's tasks, such as val-dwa-law-fem; several, with commas between them, "
        f"are dealt out over the environments. (default: {DEFAULT_CHARACTER})",
    )
    captioner: str = Field(
        MESSAGE,
        description="What puts a step of NetHack's tasks into words: message, message-and-changes (also "
        "experience level, hunger, depth, low hit points), or module:function of your own.",
    )
    dungeons: str | None = Field(
        None,
        description="Play NetHack's tasks in these dungeons over and over, by the seeds of their levels: "
        "2,4,7 or 1-5; onibus evaluate plays in others. (default: each episode has its own)",
    )
    seed: int = Field(0, ge=-MOST_SEED, le=MOST_SEED, description="Seed of the run.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Where the network is trained.")
    inference: Literal["local", "central"] | None = Field(
        None,
        description="local: rollout workers act with their own copy of the policy; central: one process acts "
        "for all of them. (default: local on a CPU but for the full network, otherwise central)",
    )
    serial: bool = Field(False, description="Run everything in one process, for debugging.")
    captions: bool = Field(
        True, description="Publish and reward captions; without them, a run is a baseline of speed."
    )
    wandb: bool = Field(
        False, description="Log the history to Weights & Biases, too; its own WANDB_ variables say where."
    )

    @field_validator("captioner")
    @classmethod
    def _there_is_such_a_captioner(cls, given: str) -> str:
        check_captioner(given)
        return given


class RewardOptions(BaseModel):
    """What is rewarded.

    The reward of a step is ``c_ext * clip(scale * r_ext)`` and, of each specification,
    ``c_spec * r_int(caption) / N ** beta``, N being how often the caption has come up in the episode so far.
    """

    model_config = ConfigDict(title="Reward")

    reward: str = Field(
        DEFAULT_REWARD,
        description="retrieval (labels); classification or ranking (a model of onibus train-reward); "
        "motif (a frozen model, see --motif-model); similarity (to the goal, see --embedding); none; or "
        "module:Class for one of your own.",
    )
    reward_threshold: float | None = Field(
        None,
        description="Score above which a caption is rewarded. (default: classification p(helpful) 0.5; "
        "ranking and motif 0 deviations above the mean; similarity cosine 0)",
    )
    reward_quantile: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Of ranking and motif, in place of a threshold: reward what scores above this share of "
        "the captions compared; Motif's is 0.5.",
    )
    known_labels: bool = Field(
        True, description="Of classification: let a caption's label override the model; ONI does not."
    )
    motif_model: str | None = Field(
        None, description="For motif: file of a ranking model, or its name on the bus."
    )
    embedding: str = Field(
        "hashed",
        description="For similarity: hashed, a file of word vectors, or sentence-transformers:MODEL.",
    )
    specs: Annotated[tuple[SpecShare, ...], Flag("--spec", repeated=True, default=BY_TASK)] = Field(
        (),
        description="Annotation spec: NAME, NAME@ID or NAME@MODEL, each also with =COEFFICIENT; can be "
        "repeated to mix specs.",
    )
    extrinsic_coefficient: Annotated[float, Flag(default=BY_TASK)] = Field(
        description="Coefficient of the task's own reward; 0 for reward-free."
    )
    extrinsic_scale: float = Field(1.0, description="Factor of the task's own reward, before it is clipped.")
    extrinsic_clip: Annotated[float | None, Flag(default=BY_TASK)] = Field(
        None,
        ge=0,
        description="Largest size of the task's own reward, before its coefficient; 0 for no limit.",
    )
    count_beta: float = Field(3.0, description="Exponent of a caption's count in its episode.")

    @field_validator("reward")
    @classmethod
    def _there_is_such_a_reward(cls, given: str) -> str:
        reward_kind(given)
        return given

    _zero_is_no_clip = field_validator("extrinsic_clip")(_none_for_zero)


class PolicyOptions(BaseModel):
    """How the policy learns."""

    model_config = ConfigDict(title="Learning")

    network: Annotated[Literal["small", "medium", "full"], Flag(default=BY_TASK)] = Field(
        "small",
        description="small (for CPUs), medium (also sees the map in coarse squares) or full (sees map and "
        "message, with a GRU).",
    )
    rnn: Literal["none", "gru", "lstm"] | None = Field(
        None, description="Recurrent layer of the policy. (default: gru for full, otherwise none)"
    )
    rnn_size: int = Field(512, ge=1, description="Units of the recurrent layer.")
    learning_rate: Annotated[float, Flag(default=BY_TASK)] = Field(
        gt=0, description="Learning rate of the policy."
    )
    discount: Annotated[float, Flag(default=BY_TASK)] = Field(gt=0, lt=1, description="Discount factor.")
    entropy: Annotated[float, Flag(default=BY_TASK)] = Field(
        ge=0, description="Coefficient of the entropy bonus."
    )
    vtrace: bool = Field(False, description="Use V-trace instead of GAE; returns are not normalised then.")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="Lambda of GAE; V-trace has none.")
    ppo_clip: float = Field(0.1, gt=0, description="Clip of PPO's ratio: to 1 + X and 1 / (1 + X).")
    value_clip: float = Field(1.0, gt=0, description="Largest change of a value that is learned from.")
    value_coefficient: float = Field(0.5, ge=0, description="Coefficient of the value loss.")
    epochs: Annotated[int, Flag(default=BY_TASK)] = Field(
        1, ge=1, description="Times that each batch is learned from."
    )
    gradient_norm: float = Field(
        4.0, ge=0, description="Largest norm of a gradient, to which a larger one is scaled; 0 for no limit."
    )
    adam_epsilon: float = Field(1e-6, gt=0, description="Epsilon of Adam.")
    sample_factory: Annotated[dict[str, str], Flag(repeated=True)] = Field(
        {}, description="Any other argument of Sample Factory, NAME=VALUE; can be repeated."
    )

    @field_validator("sample_factory", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """``NAME=VALUE`` from the command line."""
        if not isinstance(given, list):
            return given
        for text in given:
            if "=" not in text:
                raise ValueError(f"{text!r} is not NAME=VALUE")
        return dict(text.split("=", 1) for text in given)


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
    steps: int | None = Field(None, ge=0, description="Stop after this many steps in all; 0 for no limit.")
    until_return: float | None = Field(
        None, description="Stop once the mean return reaches this: that of --episodes-averaged episodes."
    )
    seconds: float | None = Field(
        None, ge=0, description="Stop after this many seconds of a session; 0 for no limit."
    )
    episodes_averaged: int = Field(100, ge=1, description="Episodes behind each mean that is reported.")
    checkpoint_seconds: int = Field(60, ge=1, description="Seconds between two checkpoints.")
    checkpoints_kept: int = Field(2, ge=1, description="Number of checkpoints to keep, the newest ones.")
    milestone_seconds: int | None = Field(
        None, ge=0, description="Seconds between two checkpoints that are kept forever; 0 for none."
    )

    _zero_is_no_limit = field_validator("steps", "seconds", "milestone_seconds")(_none_for_zero)
