"""What ``onibus rollout`` is to play, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from onibus.infra.captioner_names import MESSAGE
from onibus.producers.nethack.task_names import Actions


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """What to play, and with whom. Limits are totals over all workers, environments those of each."""

    task: str
    run: str
    workers: int = 1
    environments: int = 1
    steps: int | None = None  # None is no limit
    seconds: float | None = None
    episodes: int | None = None
    max_episode_steps: int | None = None
    actions: Actions | None = None
    character: str | None = None
    captioner: str = MESSAGE
    dungeons: str | None = None  # each episode has its own
    seed: int | None = None
    imports: tuple[str, ...] = ()  # modules that register tasks
    checkpoint: Path | None = None
    """Whose policy plays; None plays random actions."""


@dataclass(slots=True)
class RolloutSummary:
    """What was played and published.

    Attributes:
        scored_episodes: those that report a score; a task of one's own may have none.
    """

    steps: int = 0
    episodes: int = 0
    return_sum: float = 0.0
    scored_episodes: int = 0
    score_sum: float = 0.0
    captions_published: int = 0
    captions_dropped: int = 0
    episodes_published: int = 0
    episodes_dropped: int = 0

    def __add__(self, other: RolloutSummary) -> RolloutSummary:
        ours, theirs = asdict(self), asdict(other)
        return RolloutSummary(**{name: ours[name] + theirs[name] for name in ours})

    def __str__(self) -> str:
        means = ""
        if self.episodes:
            means = f"mean return {self.return_sum / self.episodes:.2f}"
            if self.scored_episodes:
                means += f", score {self.score_sum / self.scored_episodes:.0f}"
            means = f" ({means})"
        lost = self.captions_dropped + self.episodes_dropped
        return (
            f"{self.steps:,} steps, {self.episodes:,} episodes{means}; "
            f"{self.captions_published:,} captions and {self.episodes_published:,} episodes published, "
            f"{lost:,} dropped"
        )
