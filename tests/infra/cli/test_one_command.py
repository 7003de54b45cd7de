"""A command line that names a command makes that one alone, which halves the start of every process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from onibus.infra.cli.main import application
from tests.command_lines import onibus_command


def made(*first: str) -> dict[str, object]:
    commands: dict[str, object] = typer.main.get_command(application(first)).commands  # type: ignore[attr-defined]
    return commands


@pytest.mark.parametrize("name", sorted(onibus_command().commands))
def test_the_command_that_is_named_is_the_only_one_and_the_same(name: str) -> None:
    (command,) = made(name).values()
    whole = onibus_command().commands[name]
    assert [p.name for p in command.params] == [p.name for p in whole.params]  # type: ignore[attr-defined]
    assert command.name == whole.name  # type: ignore[attr-defined]
    assert getattr(command, "commands", {}).keys() == getattr(whole, "commands", {}).keys()


@pytest.mark.parametrize("first", [(), ("--help",), ("lern",), ("train_reward",)], ids=str)
def test_what_names_none_gets_all(first: tuple[str, ...]) -> None:
    assert made(*first).keys() == onibus_command().commands.keys()


@pytest.mark.integration
def test_other_commands_are_not_imported() -> None:
    script = """
import sys
from onibus.infra.cli.main import main
sys.argv = ["onibus", "topics", "--help"]
try:
    main()
except SystemExit:
    print(sorted({"onibus.infra.cli.learn", "onibus.learner.options"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
