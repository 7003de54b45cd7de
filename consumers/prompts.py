"""Prompts from templates: Jinja in a sandbox, for spec files come from anywhere."""

from __future__ import annotations

from hashlib import blake2b

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from infra.errors import OnibusError
from schemas.records import AnnotationSpec

PROMPT_HASH_BYTES = 16


class Prompt:
    """The prompt of one spec, for any caption.

    Raises:
        OnibusError: the template is not valid, or names something that there is not.
    """

    def __init__(self, spec: AnnotationSpec) -> None:
        self._goal = spec.goal
        try:
            environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
            self._template: Template = environment.from_string(spec.template)
            self.text("You see here a key.")
        except TemplateError as error:
            raise OnibusError(
                f"template of spec {spec.name}: {error}; it may use {{{{ goal }}}} and {{{{ caption }}}}"
            ) from error

    def text(self, caption: str) -> str:
        """The prompt about ``caption``."""
        return self._template.render(goal=self._goal, caption=caption)


def prompt_hash(prompt: str) -> bytes:
    """BLAKE2b-128 of the prompt's UTF-8 bytes."""
    return blake2b(prompt.encode(), digest_size=PROMPT_HASH_BYTES).digest()
