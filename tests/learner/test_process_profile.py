"""Profiles of a run's processes, and what the step-cost benchmark makes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import CodeType

import pytest

from onibus.learner.benchmarks.step_split import split, write_flame_graph
from onibus.learner.process_profile import FOLDER_VARIABLE, Profile, read_profiles
from onibus.producers.nethack.messages import _listening

_BUSY = """
import threading
import time
from onibus.learner import process_profile

process_profile.WARM_UP_SECONDS = 0.0
process_profile.SAVE_SECONDS = 0.1
process_profile.profile_if_asked("busy_proc0")

def work():
    until = time.thread_time() + 1.0
    while time.thread_time() < until:
        sum(range(1000))

other = threading.Thread(target=work, name="other")
other.start()
work()
other.join()
"""


def test_a_profile_says_which_functions_took_the_processors_time(tmp_path: Path) -> None:
    environment = {FOLDER_VARIABLE: str(tmp_path)}
    subprocess.run([sys.executable, "-c", _BUSY], env=environment, check=True, timeout=120)
    (profile,) = read_profiles(tmp_path)
    assert profile.process == "busy_proc0"
    assert 0.1 < profile.main_seconds < 3.0
    assert 0.1 < profile.thread_seconds["other"] < 1.5
    at_work = sum(count for stack, count in profile.stacks.items() if "<string>:work" in stack)
    assert at_work >= 0.5 * sum(profile.stacks.values())
    write_flame_graph(profile, tmp_path / "busy.svg")
    assert "work (" in (tmp_path / "busy.svg").read_text()


def test_nothing_is_profiled_unless_it_is_asked_for() -> None:
    program = f"{_BUSY}\nimport signal\nprint(signal.getitimer(signal.ITIMER_PROF))"
    done = subprocess.run([sys.executable, "-c", program], env={}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(0.0, 0.0)"


def test_a_steps_time_is_split_by_the_innermost_frame_that_is_known() -> None:
    (heard,) = (inner for inner in _listening.__code__.co_consts if isinstance(inner, CodeType))
    game = f"{heard.co_filename}:{heard.co_qualname}"
    games = (
        "/x/learner/sampling/games.py:Games.step;/x/producers/nethack/environment.py:NetHackEnvironment.step"
    )
    rollout = Profile(
        "rollout_proc0",
        main_seconds=8.0,
        thread_seconds={"kafka-sender": 1.0},
        stacks={
            f"{games};/y/nle/env/base.py:NLE.step;{game}": 40,
            f"{games};/x/producers/nethack/environment.py:NetHackEnvironment._observe": 10,
            f"{games};/x/producers/nethack/environment.py:NetHackEnvironment._caption": 10,
            "/x/learner/sampling/acting_policy.py:ActingPolicy.act;/y/torch/nn/modules/linear.py:forward": 15,
            "/x/learner/sampling/rollouts.py:LocalRollouts._hand_over": 5,
        },
    )
    learner = Profile(
        "learner_proc0",
        main_seconds=4.0,
        thread_seconds={"batcher": 0.25, "labels": 0.25},
        stacks={
            "/x/learner/sample_factory.py:RewardingLearner.train;/y/torch/autograd:backward": 3,
            "/x/learner/sample_factory.py:RewardingLearner._add_intrinsic_reward": 1,
        },
    )
    parts = split([rollout, learner], steps=1e6)
    assert parts == pytest.approx(
        {
            "NetHack": 4.0, "wrapper": 1.0, "captions": 1.0, "inference": 1.5, "sampling": 0.5,
            "learner": 3.25, "reward": 1.0, "bus": 1.25, "main process": 0.0,
        }
    )  # fmt: skip
