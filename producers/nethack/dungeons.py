"""Dungeons that are played in over and over, by the seed of the generator that makes NetHack's levels."""

from __future__ import annotations

from onibus.infra.errors import OnibusError

MOST_DUNGEONS = 100_000
_MOST_SEED = (1 << 63) - 1


def parse_dungeons(given: str) -> tuple[int, ...]:
    """Seeds of dungeons, as ``--dungeons`` takes them: ``7``, ``2,4,7``, ``1-5``, or both forms mixed.

    Raises:
        OnibusError: ``given`` is something else, or names more than :data:`MOST_DUNGEONS`.
    """
    seeds: dict[int, None] = {}
    for part in given.split(","):
        first, dash, last = (text.strip() for text in part.partition("-"))
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise _refused(given) from None
        if not 1 <= low <= high <= _MOST_SEED:
            raise _refused(given)
        if len(seeds) + high - low >= MOST_DUNGEONS:
            raise OnibusError(f"--dungeons {given}: these are more than {MOST_DUNGEONS:,}; give fewer")
        seeds.update(dict.fromkeys(range(low, high + 1)))
    return tuple(seeds)


def dungeon_of(dungeons: tuple[int, ...], draw: int) -> int:
    """The dungeon of an episode, by a number drawn for it; 0, which stands for none, where there are none."""
    return dungeons[draw % len(dungeons)] if dungeons else 0


def _refused(given: str) -> OnibusError:
    return OnibusError(
        f"--dungeons {given}: these are not seeds of dungeons; give whole numbers from 1, as in 2,4,7 or 1-5"
    )
