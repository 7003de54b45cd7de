"""Flags come from the fields of option models: their names, types, help and defaults stand there alone."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from onibus.consumers.reward_models.options import TrainOptions
from onibus.infra.errors import OnibusError
from onibus.infra.flags import Flag, flag_name, made
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions, make_options
from tests.command_lines import onibus_command

COMMANDS: dict[str, type[BaseModel]] = {
    "learn": LearnOptions,
    "train-reward": TrainOptions,
}


def options_of(command: str) -> dict[str, Any]:
    return {option.opts[0]: option for option in onibus_command().commands[command].params}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_a_flag_with_its_description_and_default(command: str) -> None:
    model, options = COMMANDS[command], options_of(command)
    for name, field in model.model_fields.items():
        option = options[flag_name(name, field.metadata)]
        assert option.help.startswith(field.description), name
        shown = next((f.default for f in field.metadata if isinstance(f, Flag) and f.default), field.default)
        if isinstance(shown, int | float | str) and not isinstance(shown, bool):
            assert option.help.endswith(f"(default: {shown})"), name


@pytest.mark.parametrize("command", COMMANDS)
def test_only_the_models_have_defaults(command: str) -> None:
    """A flag that is not typed is None: then the model, the task or a resumed run decides."""
    fields = COMMANDS[command].model_fields
    flags = [flag_name(name, field.metadata) for name, field in fields.items()]
    options = options_of(command)
    assert {options[flag].default for flag in flags} == {None}


@pytest.mark.parametrize("rate", ["inf", "nan"])
def test_a_trainer_takes_no_rate_that_is_not_finite(rate: str) -> None:
    with pytest.raises(OnibusError, match=r"^--late-steps-per-second: Input should be a finite number; give"):
        made(TrainOptions, {"late_steps_per_second": float(rate)})


def test_settings_show_their_defaults_too() -> None:
    options = options_of("status")
    assert options["--topic-prefix"].help == f"{Settings.model_fields['topic_prefix'].description} " + (
        "(default: onibus.)"
    )
    assert "--sasl-password" not in options


def test_every_flag_of_a_run_is_taken_and_can_be_switched_off_again() -> None:
    words = ["--vtrace", "--no-captions", "--spec", "goals", "--spec", "combat=0.1", "--workers", "3"]
    context = onibus_command().commands["learn"].make_context("learn", words)
    given = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    specs = ["goals", "combat=0.1"]
    wanted = {"vtrace": True, "captions": False, "specs": specs, "workers": 3}
    assert given == wanted | {"resume": False, "resume_or_start": False, "verbose": False}
    options = make_options("score", run="r", **wanted)
    assert [(s.name, s.coefficient) for s in options.specs] == [("goals", 0.4), ("combat", 0.1)]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"seed": -1}, "--seed: Input should be greater than or equal to 0; give another value"),
        ({"spec": 3}, "--spec: Input should be a valid string; give another value"),
    ],
)
def test_a_value_out_of_range_names_its_flag(given: dict[str, Any], line: str) -> None:
    with pytest.raises(OnibusError) as refused:
        made(TrainOptions, given)
    assert str(refused.value) == line
