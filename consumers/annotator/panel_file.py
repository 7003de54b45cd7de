"""The file of ``onibus annotate --panel``: who is asked about each caption, where, and at which prices.

.. code-block:: toml

    [[judge]]
    model = "Qwen/Qwen2.5-7B-Instruct"
    base_url = "http://127.0.0.1:8000/v1"

    [[judge]]
    model = "gpt-4o-mini"
    base_url = "https://api.openai.com/v1"
    key_env = "OPENAI_API_KEY"
    concurrency = 16
    price_in = 0.15
    price_out = 0.60
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from onibus.consumers.language_models.api_keys import NO_KEY, Given, key_in
from onibus.consumers.language_models.panel import PATIENCE_SECONDS
from onibus.consumers.specs.answer_format import SpecPart
from onibus.consumers.specs.spec_faults import type_fault
from onibus.infra.errors import OnibusError
from onibus.infra.files import read_toml
from onibus.infra.money import HIGHEST_PRICE

MOST_JUDGES = 100
_OF_RULES = {"llm", "flip", "flip_seed"}
"""Fields that mean something to keyword rules."""
LEAST_PATIENCE_SECONDS = 30.0
"""Less than this would end each wait before a server that is away is probed again."""


class JudgeEntry(SpecPart):
    """One judge; what it has in common with ``onibus annotate`` has the name of the flag there."""

    model_config = ConfigDict(allow_inf_nan=False)

    llm: str = "openai"
    model: str | None = None
    model_revision: str = ""
    base_url: str | None = None
    key_env: str | None = None
    key_file: Path | None = None
    concurrency: int = Field(64, ge=1, le=10_000)
    request_timeout: float = Field(120.0, ge=0.1, le=86_400)
    price_in: float | None = Field(None, ge=0, le=HIGHEST_PRICE)
    price_out: float | None = Field(None, ge=0, le=HIGHEST_PRICE)
    flip: float = Field(0.0, ge=0, le=1)
    flip_seed: int = 0

    @model_validator(mode="after")
    def _one_key(self) -> JudgeEntry:
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("has key_env and key_file; leave one out")
        return self

    @model_validator(mode="after")
    def _rules_take_nothing(self) -> JudgeEntry:
        if self.llm == "rules" and (useless := self.model_fields_set - _OF_RULES):
            raise ValueError(
                f'has llm = "rules", which takes no {" or ".join(sorted(useless))}; leave it out'
            )
        return self

    def key(self) -> str:
        """The judge's own API key. No other judge's server is sent it; without one, none is sent any.

        Raises:
            OnibusError: it is not where the file says.
        """
        if self.key_env is not None:
            if not (key := os.environ.get(self.key_env)):
                raise OnibusError(
                    f"key_env{self.given.of}: {self.key_env!r} is not set; set it to the API key"
                )
            return key
        return NO_KEY if self.key_file is None else key_in(self.key_file, f"key_file{self.given.of}")

    @property
    def given(self) -> Given:
        """Where its address, model and key stand, for errors."""
        return Given(
            "base_url", "model", "key_env or key_file", f" of judge {self.model!r} in the panel file"
        )


class PanelFile(SpecPart):
    """Two judges or more.

    Attributes:
        patience: seconds for a judge that does not answer, where its vote is not needed.
        quorum: judges whose votes are enough after that; None: all whose votes can change the verdict.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    judge: tuple[JudgeEntry, ...]
    patience: float = Field(PATIENCE_SECONDS, ge=LEAST_PATIENCE_SECONDS)
    quorum: int | None = Field(None, ge=1)

    @field_validator("judge", mode="before")
    @classmethod
    def _tables(cls, judges: object) -> object:
        """The judges, if they are tables and as many as there may be."""
        if not isinstance(judges, list | tuple) or not all(isinstance(j, dict | JudgeEntry) for j in judges):
            raise ValueError("write [[judge]] above the fields of each judge")
        if not 2 <= len(judges) <= MOST_JUDGES:
            raise ValueError(f"gives {len(judges)}; a panel has 2 to {MOST_JUDGES} judges")
        return judges

    @field_validator("quorum")
    @classmethod
    def _no_more_than_judges(cls, quorum: int | None, info: ValidationInfo) -> int | None:
        judges = len(info.data.get("judge", ()))  # none where they have faults of their own
        if quorum is not None and 0 < judges < quorum:
            raise ValueError(f"is more than the {judges} judges; lower it")
        return quorum


def load_panel_file(path: Path) -> PanelFile:
    """The panel that a file describes.

    Raises:
        OnibusError: there is no such file, or it is not as it must be; all that is wrong at once.
    """
    contents = read_toml(path, f"panel file {path}")
    try:
        return PanelFile.model_validate(contents)
    except ValidationError as error:
        found = dict.fromkeys(type_fault(one["loc"], one["msg"], PanelFile) for one in error.errors())
        advice = "" if all("; " in fault for fault in found) else "; correct it"
        raise OnibusError(f"panel file {path}: {'; '.join(found)}{advice}") from error
