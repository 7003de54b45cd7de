"""The options of a reward trainer; each is a flag of ``onibus train-reward``, too."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from onibus.consumers.reward_models.schedule import BATCHES_PER_SECOND, Name
from onibus.infra.devices import Device
from onibus.infra.flags import MOST_SEED


class TrainOptions(BaseModel):
    """What one trainer learns from, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spec: str = Field("goals", description="Annotation spec to learn from: NAME, NAME@ID or NAME@MODEL.")
    seed: int = Field(0, ge=0, le=MOST_SEED, description="Seed of initial weights and mini-batches.")
    network: str = Field(
        "max-over-time",
        description="max-over-time, published (ONI's), published-0.1, small or large; or module:Class of "
        "your own.",
    )
    schedule: Name = Field(
        "own", description="When it is trained: own or published (ONI's; goes well with --network published)."
    )
    late_steps_per_second: float = Field(
        BATCHES_PER_SECOND,
        gt=0,
        description="Steps of the published schedule after 25,000 labels: your learner's batches per second.",
    )
    device: Device = Field("cpu", description="Where the model is trained: cpu or gpu.")
