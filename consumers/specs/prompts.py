"""Prompts from templates: Jinja in a sandbox, for spec files come from anywhere."""

from __future__ import annotations

from hashlib import blake2b

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from infra.errors import OnibusError
from schemas.records import AnnotationSpec, Kind

PROMPT_HASH_BYTES = 16


class Prompt:
    """The prompt of one spec, for any caption or any two.

    Raises:
        OnibusError: the template is not valid, or names something that there is not.
    """

    def __init__(self, spec: AnnotationSpec) -> None:
        self._goal = spec.goal
        self._compares = spec.kind is Kind.COMPARE_TWO
        captions = "{{ first }} and {{ second }}" if self._compares else "{{ caption }}"
        try:
            environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
            self._template: Template = environment.from_string(spec.template)
            self.example()
        except TemplateError as error:
            raise OnibusError(
                f"template of spec {spec.name}: {error}; it may use {{{{ goal }}}} and {captions}"
            ) from error

    def example(self) -> str:
        """The prompt about some caption, to try whether such prompts are answered at all."""
        return self.text("You see here a key.", "It is dark." if self._compares else None)

    def text(self, caption: str, second: str | None = None) -> str:
        """The prompt about ``caption``; of a comparison about it as the first and ``second``."""
        if second is None:
            return self._template.render(goal=self._goal, caption=caption)
        return self._template.render(goal=self._goal, first=caption, second=second)


def prompt_hash(prompt: str) -> bytes:
    """BLAKE2b-128 of the prompt's UTF-8 bytes."""
    return blake2b(prompt.encode(), digest_size=PROMPT_HASH_BYTES).digest()
