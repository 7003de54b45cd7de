"""Text from players and models is never printed as it is: no control characters, no markup, no lines."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.process.logs import LineFormatter
from onibus.infra.process.terminal import console, echo, printable, printable_lines
from onibus.infra.settings import Settings, environment_of
from onibus.producers.nethack.episodes import episode_key
from onibus.schemas import codec, ids
from onibus.schemas.records import CaptionObserved, DeadLetter, Origin, Verdict
from tests.command import REPOSITORY, run_onibus, start_onibus
from tests.consumers.reward_models.annotation_logs import (
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
)
from tests.producers.nethack.playing import Memory, environment, play

NASTY = "\x1b[2J\x1b]0;owned\x07[red]\x9b31mYou see[/red] \u202ea newt\x7f\nonibus: all is well"
HARMLESS = r"\x1b[2J\x1b]0;owned\x07[red]\x9b31mYou see[/red] \u202ea newt\x7f\nonibus: all is well"


def controls_in(text: str) -> set[str]:
    """Control characters but line feeds."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"}


def test_control_characters_are_shown_as_python_writes_them() -> None:
    assert printable(NASTY) == HARMLESS
    assert printable_lines("a\x07\nb\u2028") == "a\\x07\nb\\u2028"
    assert printable("half \ud83d of a pair") == r"half \ud83d of a pair"


@pytest.mark.parametrize("text", ["plain", "größer – «naïve» 日本語", "👩\u200d🚀", "a\tb", "100\u00a0%"])
def test_other_text_is_left_alone(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_console_prints_only_its_own_control_characters_and_takes_markup_for_text(
    is_terminal: bool,
) -> None:
    out = io.StringIO()
    shown_on = console(file=out, force_terminal=is_terminal, color_system=None, width=200)
    table = Table("[red]caption", title=NASTY)
    table.add_row(NASTY)
    table.add_row(Text(NASTY))
    shown_on.print(table, NASTY, Text(NASTY))
    assert (
        controls_in(out.getvalue().replace("\x1b[1m", "").replace("\x1b[3m", "").replace("\x1b[0m", ""))
        == set()
    )
    assert "[red]caption" in out.getvalue()
    assert out.getvalue().count("[red]") == 6


def test_echo_and_log_lines_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    echo(NASTY)
    echo(NASTY, err=True)
    record = logging.LogRecord("x", logging.INFO, "", 1, "answer: %s", (NASTY,), None)
    out, err = capsys.readouterr()
    for text in (out, err, LineFormatter("%(message)s").format(record)):
        assert controls_in(text) == set()
        assert r"\x1b[2J" in text


def publish_to(settings: Settings, topic: Callable[[TopicNames], str], key: bytes, value: bytes) -> None:
    producer = clients.producer(settings)
    producer.send(topic(TopicNames(settings.topic_prefix)), key=key, value=value, partition=0)
    producer.flush()
    producer.close()


@pytest.mark.slow
def test_no_command_prints_them(settings: Settings, tmp_path: Path) -> None:
    now = time.time_ns() // 1000
    nasty = replace(
        annotation(NASTY, Verdict.HELPFUL, Origin.LLM, at=now),
        raw_answer=NASTY,
        reason=NASTY,
        annotator=NASTY,
        model=NASTY,
        model_revision="[red]",
    )
    publish_annotations(settings, [annotation(text) for text in TEXTS] + [nasty])
    caption = codec.encode(CaptionObserved(NASTY, "score", "run", 0, 0, 0, 1, -1, now))
    letter = DeadLetter("captions", 0, 0, NASTY, NASTY, 3, SPEC_ID, ids.caption_id(NASTY), caption, now)
    publish_to(settings, lambda names: names.dead_letters, b"key", codec.encode(letter))
    memory = Memory()
    game = environment("keyroom-s5", memory, max_episode_steps=20, run="[red]\x1b[2Jrun")
    play(game)
    game.close()
    episode = memory.episodes[0]
    publish_to(settings, lambda names: names.episodes, episode_key(episode), codec.encode(episode))

    wide = environment_of(settings) | {"COLUMNS": "2000"}

    def run(*arguments: object, code: int = 0) -> str:
        done = run_onibus(*arguments, folder=tmp_path, environment=wide)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert controls_in(said) == set(), arguments
        assert "\nonibus: all is well" not in said, "a caption looks like a line of the command's own"
        return said

    identity = ids.caption_id(NASTY).hex()[:12]
    model = tmp_path / "model.safetensors"
    assert HARMLESS in run("labels", "list", "--annotator", NASTY)
    assert HARMLESS in run("labels", "show", identity)
    run("labels", "show", identity, "--json")
    assert HARMLESS in run("labels", "withdraw", "--text", "you see[/red]")
    assert HARMLESS in run("labels", "annotate-again", "--spec", SPEC_NAME, "--text", "you see[/red]")
    assert "[red]" in run("dead-letters", "list")
    assert r"\x1b" in run("status")
    run("replay", "train", model, "--spec", SPEC_NAME, "--steps", 32, "--name", "[red]\x1b[2Jmodel")
    run("labels", "set", identity, "helpful", "--spec", SPEC_NAME, "--person", NASTY)
    assert HARMLESS in run("replay", "evaluate", model, "--worst", 100)
    run("labels", "set", identity, "unhelpful", "--spec", SPEC_NAME, "--person", NASTY)
    assert HARMLESS in run("replay", "compare", f"annotators:{SPEC_NAME}", f"people:{SPEC_NAME}")
    assert "[red]" in run("replay", "rewards")
    assert "[red]" in run("replay", "episode", "--speed", 0)
    run("replay", "verify", "--no-labels")
    run("labels", "export", tmp_path / "out.jsonl")
    for refused in (
        ("labels", "show", f"no such {NASTY}"),
        ("labels", "list", "--spec", NASTY),
        ("dead-letters", "list", "--spec", NASTY),
        ("learn", "--task", NASTY),
        ("annotate", "--spec", NASTY),
        ("train-reward", "--network", NASTY),
        ("replay", "evaluate", NASTY),
        (NASTY,),
    ):
        assert r"\x1b" in run(*refused, code=2), refused


WRITER = """
import sys
from onibus.infra.process.terminal import echo, survive_lost_output
survive_lost_output(lambda: {go_on})
sys.stdin.readline()
echo("one more line", err={err})
open(sys.argv[1], "w").write("went on")
"""


@pytest.mark.parametrize(
    ("err", "go_on", "goes_on"), [(False, True, True), (False, False, False), (True, False, True)]
)
def test_output_to_a_pipe_that_no_one_reads_is_lost_without_harm(
    err: bool, go_on: bool, goes_on: bool, tmp_path: Path
) -> None:
    ours, theirs = os.pipe()
    script = WRITER.format(go_on=go_on, err=err)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "mark")],
        **{"stderr" if err else "stdout": theirs},  # type: ignore[call-overload]
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    os.close(theirs)
    os.close(ours)
    process.communicate(b"\n", timeout=30)
    assert (tmp_path / "mark").exists() is goes_on
    assert (process.returncode == 0) is goes_on


def test_a_command_whose_reader_stops_reading_ends_quietly(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m onibus access roles --json | true"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_output_for_which_there_is_no_room_is_said_in_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = start_onibus(
            "access", "roles", environment={}, folder=tmp_path, stdout=full, stderr=subprocess.PIPE
        )
    _, said = command.communicate(timeout=60)
    assert said == (
        "onibus: the output is not whole: No space left on device; free some space, or write it elsewhere\n"
    )
    assert command.wait() == 2
