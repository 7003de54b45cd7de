"""The options of an annotator: who judges what, and how; of a panel, those of each judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onibus.consumers.annotator.backlog import Backlog
from onibus.consumers.annotator.cost import Prices
from onibus.consumers.annotator.decisions import COMPARISONS
from onibus.consumers.annotator.membership import STOP_SECONDS
from onibus.consumers.annotator.panel_file import JudgeEntry, PanelFile
from onibus.consumers.language_models.flipping import NO_FLIPS, Flips
from onibus.infra.errors import OnibusError

JUDGES = ("rules", "openai", "vllm")
"""Values of ``--llm``; it can also be ``module:factory``."""


@dataclass(frozen=True, slots=True)
class AnnotateOptions:
    """The flags of ``onibus annotate``."""

    specs: tuple[str, ...] = ("goals",)
    llm: str = "rules"
    base_url: str | None = None
    model: str | None = None
    model_revision: str = ""
    concurrency: int = 64
    comparisons: int = COMPARISONS
    near_pairs: bool = False
    ask_again: int = 0
    request_seconds: float = 120.0
    group: str | None = None
    name: str | None = None
    budget_tokens: int | None = None
    budget_usd: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    static: bool = False
    session_seconds: float = 10.0
    stop_seconds: float = STOP_SECONDS
    metrics_port: int | None = None
    verbose: bool = False
    backlog: Backlog | None = None
    tasks: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    flips: Flips = NO_FLIPS
    panel: PanelFile | None = None
    """Several judges; nothing else here says who judges then."""
    entry: JudgeEntry | None = None
    """Of a panel, the judge that these options are for."""

    def __post_init__(self) -> None:
        given = {
            "--llm": self.llm != "rules",
            "--base-url": self.base_url,
            "--model": self.model,
            "--model-revision": self.model_revision,
            "--flip": self.flips.share,
        }
        wrong = [flag for flag, value in given.items() if value]
        if self.static and self.name is None:
            raise OnibusError(
                "--static needs --name: the name under which a restarted annotator is known again"
            )
        if self.panel is not None and wrong:
            raise OnibusError(f"--panel says who judges; leave out {' and '.join(wrong)}")

    @property
    def llm_given_as(self) -> str:
        """What ``llm`` was given by, for errors."""
        return "--llm" if self.entry is None else "llm in the panel file:"

    @property
    def judges(self) -> list[AnnotateOptions]:
        """The options of each judge; without a panel these."""
        if self.panel is None:
            return [self]
        return [
            replace(
                self,
                panel=None,
                entry=entry,
                llm=entry.llm,
                model=entry.model,
                model_revision=entry.model_revision,
                base_url=entry.base_url,
                concurrency=entry.concurrency,
                request_seconds=entry.request_timeout,
                flips=Flips(entry.flip, entry.flip_seed),
                price_in=self.price_in if entry.price_in is None else entry.price_in,
                price_out=self.price_out if entry.price_out is None else entry.price_out,
            )
            for entry in self.panel.judge
        ]

    @property
    def prices(self) -> Prices:
        """Of the model's tokens; rules cost nothing."""
        return Prices() if self.llm == "rules" else Prices(self.price_in or 0.0, self.price_out or 0.0)

    @property
    def costs_nothing(self) -> bool:
        """Whether rules alone judge."""
        return all(judge.llm == "rules" for judge in self.judges)
