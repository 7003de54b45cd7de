"""A level description of the user's own is a task of MiniHack's kind, as the page on extending has it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from onibus.infra.errors import OnibusError
from onibus.producers.environments.any_task import check_task
from onibus.producers.environments.tasks import import_tasks
from onibus.producers.nethack.episodes import verify
from onibus.producers.nethack.playback import frames
from onibus.producers.nethack.tasks import make_task
from tests.producers.nethack.playing import Memory, environment, play

PAGE = Path(__file__).parents[3] / "infra" / "docs" / "extending.md"


@pytest.fixture
def level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("vault.des", "vault.py"):
        (content,) = re.findall(rf"```\w+\n(# {re.escape(name)}\n.*?)```", PAGE.read_text(), re.DOTALL)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path / "vault.des"
    sys.modules.pop("vault", None)
    gym.registry.pop("MiniHack-Vault-v0", None)


def test_a_level_of_the_users_own_is_played_recorded_and_played_again(level: Path) -> None:
    check_task("vault", None, None, ["vault"])
    memory = Memory()
    env = environment("vault", memory)
    for seed in range(6):
        play(env, seed)
    env.close()
    assert "$ - 50 gold pieces." in {caption.text for caption, *_ in memory.captions}
    assert any(record.success for record in memory.episodes)
    for record in memory.episodes:
        assert record.task == "vault"
        verify(record)
    assert "@" in "".join(map(chr, next(frames(memory.episodes[0])).characters.flat))


def test_a_level_that_does_not_compile_is_refused_and_so_is_one_that_is_missing(
    level: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import_tasks(["vault"])
    level.write_text(level.read_text().replace("STAIR", "STAIRR"))
    with pytest.raises(OnibusError, match="task vault cannot start: its level description does not compile"):
        make_task("vault")
    assert 'syntax error at "STAIRR"' in capfd.readouterr().err
    level.unlink()
    with pytest.raises(OnibusError, match="does not compile"):
        make_task("vault")


def test_a_task_that_minihack_cannot_make_is_one_line() -> None:
    with pytest.raises(OnibusError, match="the environment of task navigation-custom failed: AttributeError"):
        make_task("navigation-custom")
