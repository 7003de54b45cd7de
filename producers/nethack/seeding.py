"""Seeds that really seed: an episode is a function of its three seeds and its actions.

``reset(seed=…)`` does not reach NetHack; ``seed(core, disp, reseed=False)`` before the reset does. Two more
things would leak from one episode into the next: NetHack's own high-score file (statues and graves are
named after past players, and picking one draws random numbers) and Python's global generator, from which
some MiniHack environments take their level. And the clock would: NLE's ``fix_moon_phase`` takes the moon,
Friday the 13th, night and midnight from the core seed, but not the time when the game began, by which
NetHack names shopkeepers, prices glass and chooses the kind of an anthole's ants.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import random
import secrets
import struct
from hashlib import blake2b
from typing import Any, NamedTuple

import gymnasium as gym

from onibus.infra.process.shutdown import keep_hang_ups
from onibus.producers.nethack.shared_code import share_code

_SEED_BITS = (1 << 63) - 1  # fits Avro's signed long and NetHack's unsigned long
_BIRTHDAYS = (1 << 31) - 1  # NetHack reckons with them in C ints
_SCORE_FILES = {"record": 0, "logfile": 1 << 20, "xlogfile": 1 << 20}
"""Files that the game writes at its end, and the size in bytes from which each is emptied: the high scores
always, for the next game reads them; the logs, which no one reads, so that they do not fill the disk."""


class Seeds(NamedTuple):
    """Seeds of one episode, each 0 … 2⁶³-1.

    Attributes:
        core: of NetHack's core generator.
        disp: of its display generator.
        level: of Python's generator, by which MiniHack chooses levels; 0 for NetHack's tasks.
        dungeon: of the generator that makes NetHack's levels; 0 leaves them to ``core``. Games of one dungeon
            have the same levels, with the same things on them; what happens there follows from ``core``.
    """

    core: int
    disp: int
    level: int
    dungeon: int = 0


def random_base_seed() -> int:
    """A fresh base seed, 0 … 2⁶³-1, from the operating system."""
    return secrets.randbits(63)


def episode_seeds(base: int, worker: int, environment: int, episode: int) -> Seeds:
    """Seeds of one episode: the same on every machine, unrelated for any two (BLAKE2b)."""
    place = struct.pack("<4q", base & _SEED_BITS, worker, environment, episode)
    digest = blake2b(place, digest_size=24, person=b"onibus-seeds").digest()
    core, disp, level = (n & _SEED_BITS for n in struct.unpack("<3Q", digest))
    return Seeds(core, disp, level)


def reset_with_seeds(
    env: gym.Env[Any, Any], seeds: Seeds, *, by_clock: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reset an NLE or MiniHack environment so that what follows depends on seeds and actions alone.

    Python's global generator is left as it was found.

    Args:
        env: made by :func:`onibus.producers.nethack.tasks.make_task` with the same ``by_clock``.
        by_clock: leave to the clock what NetHack takes from it, as before NLE 1.3.
    """
    game: Any = env.unwrapped
    for name, limit in _SCORE_FILES.items():
        path = os.path.join(game.nethack._vardir, name)
        if os.path.getsize(path) > limit:  # truncating costs the disk a write
            os.truncate(path, 0)
    state = random.getstate()
    random.seed(seeds.level)
    try:
        game.seed(core=seeds.core, disp=seeds.disp, reseed=False, lgen=seeds.dungeon or None)
        observation, info = env.reset()
    finally:
        random.setstate(state)
        keep_hang_ups()
    _prepare(game.nethack.dlpath, None if by_clock else seeds.core & _BIRTHDAYS)
    return observation, info


def _prepare(library: str, birthday: int | None) -> None:
    """Share the code of ``library``, this game's own copy of NetHack, and set when the game says it began.

    The first level is there by then; it has neither shops nor antholes, nor has any of MiniHack's.

    Args:
        birthday: in seconds; None leaves it to the clock.
    """
    handle = ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    try:
        share_code(handle._handle)
        if birthday is not None:
            ctypes.c_long.in_dll(handle, "ubirthday").value = birthday
    finally:
        _ctypes.dlclose(handle._handle)  # NLE refuses to begin a game in a copy that is still loaded
