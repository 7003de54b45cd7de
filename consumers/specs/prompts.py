"""Prompts from templates: Jinja in a sandbox, for spec files come from anywhere.

Captions hold what players type (names, engravings). ``{{ caption | quoted }}`` marks one off from the rest;
``{{ caption | line }}`` keeps it on its line.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from onibus.infra.errors import OnibusError
from onibus.schemas.records import AnnotationSpec, Kind

PROMPT_HASH_BYTES = 16
_MEANT_OTHERWISE = re.compile(r'["\\<◁]|\[(?=/|[A-Z_]{2,}\])')
"""What ends a quotation, and what begins a tag or a tokenizer's special token ("<|im_end|>", "[/INST]")."""
_ENDS_A_LINE = re.compile(r"[<◁]|\[(?=/|[A-Z_]{2,}\])")
"""The same for a caption that has a line of its own."""
EXAMPLES = ("You see here a key.", "It is dark.")
"""Captions to try out with whether prompts are answered at all."""
_PROBE = 'probe" <|probe'


class Prompt:
    """The prompt of one spec, for any caption or any two.

    Attributes:
        before: the messages that stand before it in the conversation, with ``role`` and ``content``.

    Raises:
        OnibusError: the template is not valid, or names something that there is not.
    """

    def __init__(self, spec: AnnotationSpec) -> None:
        self._goal = spec.goal
        self._compares = spec.kind is Kind.COMPARE_TWO
        captions = "{{ first }} and {{ second }}" if self._compares else "{{ caption }}"
        try:
            environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
            environment.filters |= {"quoted": quoted, "line": line}
            self._template: Template = environment.from_string(spec.template)
            self.before: list[dict[str, str]] = [
                {"role": m.role, "content": environment.from_string(m.content).render(goal=spec.goal)}
                for m in spec.messages
            ]
            self.example()
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise OnibusError(
                f"template of spec {spec.name}: {error}; it may use {{{{ goal }}}} and {captions}, with the "
                "filters quoted and line"
            ) from error

    def example(self) -> str:
        """The prompt about the first, or both, of :data:`EXAMPLES`."""
        return self.text(EXAMPLES[0], EXAMPLES[1] if self._compares else None)

    def marks_captions_off(self) -> bool:
        """Whether no caption can end its own quotation: the template shows every caption as ``quoted``."""
        return _PROBE not in self.text(_PROBE, _PROBE if self._compares else None)

    def conversation(self, prompt: str) -> list[dict[str, str]]:
        """The messages that are sent: those before, then ``prompt`` as the user's."""
        return [*self.before, {"role": "user", "content": prompt}]

    def hash(self, prompt: str) -> bytes:
        """What tells this prompt, with all that stands before it, from others."""
        if not self.before:
            return prompt_hash(prompt)
        return prompt_hash(json.dumps(self.conversation(prompt), ensure_ascii=False))

    def text(self, caption: str, second: str | None = None) -> str:
        """The prompt about ``caption``; of a comparison about it as the first and ``second``."""
        if second is None:
            return self._template.render(goal=self._goal, caption=caption)
        return self._template.render(goal=self._goal, first=caption, second=second)


def quoted(text: str) -> str:
    """``text`` as a JSON string that it can neither end nor leave, whatever it holds.

    Escaped are quotes, backslashes, what is not printable (line breaks, control characters), and what begins
    a tag or a special token; else it stays as it is, for models know the game's messages as they are.
    """
    escaped = _MEANT_OTHERWISE.sub(lambda found: _escape(found.group()), str(text))  # a misspelt name says so
    return f'"{"".join(c if c.isprintable() else _escape(c) for c in escaped)}"'


def line(text: str) -> str:
    """``text`` as one line that it cannot leave, where each caption of a prompt has a line of its own.

    As :func:`quoted` without the quotes: those in it stay as they are.
    """
    escaped = _ENDS_A_LINE.sub(lambda found: _escape(found.group()), str(text))
    return "".join(c if c.isprintable() else _escape(c) for c in escaped)


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    code = character.encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{code[i : i + 2].hex()}" for i in range(0, len(code), 2))


def prompt_hash(prompt: str) -> bytes:
    """BLAKE2b-128 of the prompt's UTF-8 bytes."""
    return blake2b(prompt.encode(), digest_size=PROMPT_HASH_BYTES).digest()
