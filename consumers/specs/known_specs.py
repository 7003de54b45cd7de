"""Annotation specs by what a person types: NAME, NAME@ID, NAME@MODEL, or the beginning of an id."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from onibus.consumers.specs.choice import begins, log_choice, specs_meant
from onibus.consumers.specs.spec_file import read_specs
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.schemas.records import AnnotationSpec

_log = logging.getLogger(__name__)

_ID_DIGITS = 8


class KnownSpecs:
    """Every spec that was ever announced, by id, the last one announced last."""

    def __init__(self, specs: Mapping[bytes, AnnotationSpec]) -> None:
        self._specs = dict(specs)
        self._choices_reported: set[str] = set()

    @classmethod
    def read(cls, settings: Settings) -> KnownSpecs:
        """Those on the bus.

        Raises:
            OnibusError: the cluster or the topic is away.
        """
        return cls(read_specs(settings))

    def __getitem__(self, spec_id: bytes) -> AnnotationSpec:
        if spec_id not in self._specs:
            raise OnibusError(
                f"spec {spec_id.hex()} was never announced on annotation-specs; {self._there_are()}"
            )
        return self._specs[spec_id]

    @property
    def all(self) -> list[bytes]:
        """Ids of all of them."""
        return list(self._specs)

    def get(self, spec_id: bytes) -> AnnotationSpec | None:
        """The spec, if it is known."""
        return self._specs.get(spec_id)

    def name(self, spec_id: bytes) -> str:
        """Its name; its id where it was never announced."""
        spec = self._specs.get(spec_id)
        return spec_id.hex() if spec is None else spec.name

    def told_apart(self, spec_id: bytes) -> str:
        """Its name as it can be typed to mean it alone: NAME@MODEL or NAME@ID where others have its name."""
        spec = self._specs.get(spec_id)
        if spec is None:
            return spec_id.hex()
        named = specs_meant(self._specs, spec.name)
        if len(named) == 1:
            return spec.name
        by_model = f"{spec.name}@{spec.model}"
        alone = specs_meant(self._specs, by_model) == [spec_id]
        return by_model if alone else f"{spec.name}@{spec_id.hex()[:_ID_DIGITS]}"

    def matching(self, text: str) -> list[bytes]:
        """Ids of all specs that ``text`` can stand for; the last one announced last.

        Raises:
            OnibusError: there is none.
        """
        found = specs_meant(self._specs, text) or [one for one in self._specs if begins(one, text)]
        if not found:
            raise OnibusError(f"there is no spec {text}; {self._there_are()}")
        return found

    def newest(self, text: str) -> bytes:
        """Of :meth:`matching` the one announced last; logs which one that is, if there are several."""
        found = self.matching(text)
        if len(found) > 1 and text not in self._choices_reported:
            self._choices_reported.add(text)
            log_choice(_log, self._specs, text, found[-1])
        return found[-1]

    def chosen(self, texts: list[str] | None) -> list[bytes] | None:
        """Ids of all that match one of ``texts``; None for no texts, which means every spec."""
        if not texts:
            return None
        return list(dict.fromkeys(spec_id for text in texts for spec_id in self.matching(text)))

    def _there_are(self) -> str:
        names = [f"{spec.name} ({spec_id.hex()})" for spec_id, spec in self._specs.items()]
        return (
            f"there are: {', '.join(names)}" if names else "none was announced yet: onibus annotate does it"
        )
