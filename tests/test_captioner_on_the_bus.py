"""A captioner from the flag to the bus, and back: specs that ask for it, runs and episodes that keep it."""

from __future__ import annotations

import subprocess
import threading

import pytest

import onibus
from onibus.infra.settings import Settings, environment_of
from tests.command import OnibusProcess, run_onibus, the_one_line
from tests.consumers.replay.running import onibus as in_process
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

CHANGES = "message-and-changes"
SPEC = f'base = "goals"\nname = "changes"\ncaptioner = "{CHANGES}"\n'
SMALL = ("--workers", "1", "--environments", "4", "--batch-size", "128", "--max-episode-steps", "200")
SAY = "def say(step):\n    return step.info.get('caption') or 'The dungeon is silent.'\n"


def test_a_captioner_is_recorded_asked_for_and_played_again(settings: Settings) -> None:
    settings.runs_dir.mkdir(parents=True, exist_ok=True)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = run_onibus(*arguments, folder=settings.runs_dir, environment=environment_of(settings))
        assert done.returncode == 0, done.stderr
        return done

    (settings.runs_dir / "changes.toml").write_text(SPEC)
    (settings.runs_dir / "words.py").write_text(SAY)
    judge = OnibusProcess(
        "judge",
        ("annotate", "--spec", str(settings.runs_dir / "changes.toml"), "--llm", "rules"),
        settings.runs_dir / "judge.log",
    )
    judge.start(environment_of(settings))
    try:
        judge.wait_ready(60, threading.Event())
        play = ("rollout", "--task", "score", "--steps", "3000", "--seed", "1", "--max-episode-steps", "200")
        for captioner, run in (("message", "plain"), (CHANGES, "both"), ("words:say", "own")):
            command(*play, "--run", run, "--captioner", captioner)
            again = ("replay", "episode", f"{run}/", "--speed", "0")
            if run == "own":
                folder = {"folder": settings.runs_dir, "environment": environment_of(settings)}
                assert "add --import words" in the_one_line(run_onibus(*again, **folder))
                again += ("--import", "words")
                replayed = command(*again).stdout
            else:
                replayed = in_process(settings, *again)
            assert "the same as recorded" in replayed
        (plain, both, own) = (_captions(settings, run) for run in ("plain", "both", "own"))
        assert plain.keys() == {"message"}
        assert both.keys() == {CHANGES}
        ((own_name, own_texts),) = own.items()
        assert own_name.startswith("words:say sha256-")
        assert "The dungeon is silent." in own_texts
        assert any("You" in text for text in both[CHANGES] - plain["message"])
        wait_until(lambda: _labelled(settings) >= both[CHANGES], 60, "labels of what changes")
    finally:
        judge.ask_to_stop()
        judge.wait_stopped()
    assert _labelled(settings) == both[CHANGES], "the others' captions are not asked about"
    assert "run plain, captioner message) are left out" in judge.log_path.read_text()

    learn = ("learn", "--task", "score", "--run", "learned", *SMALL, "--captioner", "words:say")
    command(*learn, "--steps", "2000")
    command("learn", "--run", "learned", "--resume", "--steps", "4000")
    command("evaluate", "learned", "--episodes", "2")
    command(
        "rollout", "--checkpoint", str(settings.runs_dir / "learned"), "--episodes", "2", "--run", "checked"
    )
    for run in ("learned", "checked"):
        rows = onibus.episodes(run=run, settings=settings).to_pylist()
        assert {row["captioner"].split(" ")[0] for row in rows} == {"words:say"}, run
    report = command("report", "learned")
    assert "episode" not in report.stderr, "it plays them again"
    refused = run_onibus(
        *learn[:-1], "mesage", folder=settings.runs_dir, environment=environment_of(settings)
    )
    assert "there is no captioner 'mesage'; give message, message-and-changes" in the_one_line(refused)


def _captions(settings: Settings, run: str) -> dict[str, set[str]]:
    """Texts by captioner."""
    found: dict[str, set[str]] = {}
    for row in onibus.captions(run=run, settings=settings).to_pylist():
        found.setdefault(row["captioner"], set()).add(row["text"])
    return found


def _labelled(settings: Settings) -> set[str]:
    return {row["caption"] for row in onibus.labels(spec="changes", settings=settings).to_pylist()}
