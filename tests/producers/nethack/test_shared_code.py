"""Games of one machine share NetHack's code, and nothing that a game can write to."""

from __future__ import annotations

import _ctypes
import ctypes
import os
from pathlib import Path

import pytest
from nle.nethack.nethack import DLPATH

from onibus.producers.nethack.seeding import Seeds, reset_with_seeds
from onibus.producers.nethack.shared_code import SharedCode
from onibus.producers.nethack.tasks import make_task


def mapped() -> dict[str, list[str]]:
    """Permissions of this process's mappings of NetHack: of the installed library, and of copies."""
    found: dict[str, list[str]] = {"installed": [], "copy": []}
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if fields[-1] == DLPATH:
            found["installed"].append(fields[1])
        elif "memfd:nle.so" in fields[-1]:
            found["copy"].append(fields[1])
    return found


@pytest.mark.parametrize("task", ["score", "keyroom-s5"])
def test_after_each_reset_code_is_the_installed_librarys_and_data_the_games_own(task: str) -> None:
    before = len(mapped()["installed"])
    games = [make_task(task) for _ in range(2)]
    try:
        for episode in range(2):
            first = [reset_with_seeds(game, Seeds(episode, 1, 2))[0]["glyphs"].copy() for game in games]
            now = mapped()
            assert "r-xp" in now["installed"]
            assert len(now["installed"]) == before + 3 * len(games)
            assert not any("x" in permissions for permissions in now["copy"])
            assert (first[0] == first[1]).all()
            for action in range(8):
                games[0].step(action % games[0].action_space.n)
            games[1].reset()
    finally:
        for game in games:
            game.close()


def test_another_build_is_left_alone(tmp_path: Path) -> None:
    content = bytearray(Path(DLPATH).read_bytes())
    content[0x240] ^= 1  # in the build's id
    (tmp_path / "another.so").write_bytes(content)
    game = make_task("score")
    try:
        game.reset()
        handle = ctypes.CDLL(game.unwrapped.nethack.dlpath, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        base = ctypes.cast(handle._handle, ctypes.POINTER(ctypes.c_size_t))[0]
        before = mapped()
        assert not SharedCode(tmp_path / "another.so").share(base)
        assert mapped() == before
        _ctypes.dlclose(handle._handle)
    finally:
        game.close()
