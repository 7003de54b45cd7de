"""What NetHack takes from the clock comes from the seeds: an episode is the same at any time."""

from __future__ import annotations

import ctypes
import os
from _ctypes import dlclose
from pathlib import Path
from typing import Any

import pytest

from onibus.producers.nethack.episodes import other_version
from onibus.producers.nethack.seeding import Seeds, reset_with_seeds
from onibus.producers.nethack.tasks import make_task
from onibus.schemas import codec
from onibus.schemas.records import EpisodeFinished
from tests.producers.nethack.another_clock import at, clock_library

RECORDED_BEFORE = Path(__file__).parent / "nle_1_0_episodes"
BY_DAY = "2026-11-18 14:00"
AFTER_MIDNIGHT = "2026-11-19 00:20"
FRIDAY_13TH = "2026-11-13 12:00"
FULL_MOON_AT_NIGHT = "2026-11-24 23:30"
NEW_MOON_YEARS_LATER = "2031-08-18 09:00"


@pytest.mark.slow
def test_episodes_are_the_same_by_another_clock(tmp_path: Path) -> None:
    library, folder = clock_library(tmp_path), tmp_path / "episodes"
    folder.mkdir()
    at(BY_DAY, library, "record", folder, "25")
    assert len(list(folder.iterdir())) == 25
    for clock in (AFTER_MIDNIGHT, FRIDAY_13TH, FULL_MOON_AT_NIGHT, NEW_MOON_YEARS_LATER):
        assert at(clock, library, "verify", folder) == "", clock


def test_the_clock_would_make_a_difference(tmp_path: Path) -> None:
    """If not, the test above shows nothing."""
    library, folder = clock_library(tmp_path), tmp_path / "episodes"
    folder.mkdir()
    at(FULL_MOON_AT_NIGHT, library, "record", folder, "25")
    differing = at(BY_DAY, library, "verify-as-before", folder)
    assert "NetHack's luck still followed the clock" in differing


def test_episodes_of_nle_1_0_are_still_played_and_compared_by_the_clock(tmp_path: Path) -> None:
    """Recorded by NLE 1.0.0 at that time, with neither its version nor captions in the checksum."""
    library = clock_library(tmp_path)
    for file in sorted(RECORDED_BEFORE.iterdir()):
        record = codec.decode(EpisodeFinished, file.read_bytes())
        assert (record.nle_version, record.caption_checksum) == ("", None)
        assert "recorded under an NLE before 1.3" in str(other_version(record))
    assert at("2026-11-26 09:08", library, "verify", RECORDED_BEFORE) == ""
    assert "replay it at such a time" in at("2026-11-13 00:20", library, "verify", RECORDED_BEFORE)


@pytest.mark.parametrize("task", ["score", "keyroom-s5"])
def test_the_time_that_names_shopkeepers_comes_from_the_seeds(task: str) -> None:
    env: Any = make_task(task)
    seeds = Seeds(core=123_456_789_012, disp=2, level=3)
    for _ in range(2):
        reset_with_seeds(env, seeds)
        assert _birthday(env) == 123_456_789_012 % 2**31
    env.close()


def _birthday(env: Any) -> int:
    library = ctypes.CDLL(env.unwrapped.nethack.dlpath, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    try:
        return ctypes.c_long.in_dll(library, "ubirthday").value
    finally:
        dlclose(library._handle)
