"""The help of every command and flag: it exists, is shown completely, and is plain English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.command_lines import onibus_command

ODD = re.compile(
    r"\b(nobody|for ever|mend\w*|it is none|is no (?:number|verdict)|repeatable|"
    r"(?:environments|steps|prompts|memory|calls|one|minutes) an? (?!time))\b",
    re.IGNORECASE,
)
"""Turns of phrase that are not idiomatic English: "environments a worker" for "per worker"."""


def every_command() -> Iterator[tuple[str, Any]]:
    """Path and command, groups included."""
    waiting: list[tuple[str, Any]] = [("onibus", onibus_command())]
    while waiting:
        path, command = waiting.pop()
        yield path, command
        waiting += [(f"{path} {name}", below) for name, below in getattr(command, "commands", {}).items()]


COMMANDS = dict(every_command())


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_flag_has_help_in_whole_sentences(path: str) -> None:
    command = COMMANDS[path]
    texts = {path: command.help} | {option.opts[0]: option.help for option in command.params}
    wrong = [name for name, text in texts.items() if not text or not re.search(r"[.)]$", text.strip())]
    assert not wrong


@pytest.mark.parametrize("path", COMMANDS)
def test_no_help_is_swallowed_as_markup(path: str) -> None:
    """Rich interprets text in square brackets as a style, and shows nothing."""
    command = COMMANDS[path]
    texts = [command.help, *(option.help for option in command.params)]
    assert not [text for text in texts if "[" in text]


@pytest.mark.parametrize("path", COMMANDS)
def test_help_is_plain_english(path: str) -> None:
    command = COMMANDS[path]
    texts = [command.help, *(option.help for option in command.params)]
    assert not [text for text in texts if ODD.search(text)]
