"""`onibus learn --seeds 1,2,3`: the short form of a sweep over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onibus.infra.errors import OnibusError
from onibus.infra.run_names import check_run_name
from onibus.learner.option_groups import DEFAULT_REWARD, DEFAULT_TASK
from onibus.learner.options import make_options
from onibus.learner.sweeping.sweep_file import Sweep


def sweep_over_seeds(given: Mapping[str, Any], name: str | None, seeds: str) -> Sweep:
    """The sweep of runs with these options that differ in their seed alone, one at a time.

    Args:
        given: options of ``onibus learn`` as they were typed.
        name: names of runs begin with it; None for task and reward.
        seeds: numbers with commas between them.

    Raises:
        OnibusError: a seed is not a number, or an option is wrong or does not go with several runs.
    """
    numbers = dict.fromkeys(_number(text, seeds) for text in seeds.split(",") if text.strip())
    if not numbers:
        raise OnibusError(f"--seeds {seeds!r} names none; write --seeds 1,2,3")
    if "seed" in given:
        raise OnibusError("--seed and --seeds exclude each other; give one of them")
    if not given.get("steps"):
        raise OnibusError("--seeds needs --steps, the length of each run: so it is known when one is done")
    if ended := sorted({"seconds", "until_return"} & given.keys()):
        raise OnibusError(f"--{ended[0].replace('_', '-')} would end runs of --seeds early; leave it out")
    chosen = {"task": DEFAULT_TASK} | dict(given)
    named = check_run_name(name or f"{chosen['task']}-{chosen.get('reward', DEFAULT_REWARD)}")
    runs = [
        make_options(**chosen, run=check_run_name(f"{named}-s{number}"), seed=number) for number in numbers
    ]
    return Sweep(named, runs, parallel=1, annotators=None)


def _number(text: str, seeds: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise OnibusError(f"--seeds {seeds}: {text!r} is not a number; write --seeds 1,2,3") from error
