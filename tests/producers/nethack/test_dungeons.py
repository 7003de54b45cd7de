"""What --dungeons takes, and what it refuses."""

from __future__ import annotations

import pytest

from onibus.infra.errors import OnibusError
from onibus.learner.options import make_options
from onibus.producers.nethack.dungeons import MOST_DUNGEONS, parse_dungeons


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ("7", (7,)),
        ("2,4, 7", (2, 4, 7)),
        ("1-5", (1, 2, 3, 4, 5)),
        ("9,1-3,2", (9, 1, 2, 3)),
        ("3 - 4", (3, 4)),
    ],
)
def test_numbers_and_ranges_are_seeds_each_once(given: str, seeds: tuple[int, ...]) -> None:
    assert parse_dungeons(given) == seeds


@pytest.mark.parametrize(
    "given", ["", ",", "0", "1,,2", "5-1", "1-", "-3", "a", "1.5", "1-2-3", f"{1 << 63}", "²"]
)
def test_what_is_no_list_of_seeds_is_refused_in_one_line(given: str) -> None:
    with pytest.raises(OnibusError, match=r"^--dungeons .*: these are not seeds of dungeons; give .* 1-5$"):
        parse_dungeons(given)


def test_a_range_that_no_one_can_mean_is_refused_before_it_fills_the_memory() -> None:
    assert len(parse_dungeons(f"1-{MOST_DUNGEONS}")) == MOST_DUNGEONS
    with pytest.raises(OnibusError, match="more than 100,000; give fewer"):
        parse_dungeons(f"1-{1 << 62}")


def test_a_registered_task_has_dungeons_of_its_own() -> None:
    with pytest.raises(OnibusError, match="--dungeons is for NetHack's tasks; leave it out for key-and-door"):
        make_options("key-and-door", run="r", imports=("onibus.infra.examples.key_and_door",), dungeons="1-3")
