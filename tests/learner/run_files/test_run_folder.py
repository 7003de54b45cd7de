"""The folder of a run: one learner at a time, names that a folder can have, files that may be broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.run_names import check_run_name
from onibus.infra.settings import Settings, environment_of
from onibus.learner.options import make_options
from onibus.learner.reporting.report import write_report
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.run_files.history import last_seconds, read_history
from onibus.learner.run_files.judged_captions import kept_captions
from onibus.learner.run_files.run_lock import LOCK_FILE, only_learner_of
from onibus.learner.run_files.scored_captions import kept_scores
from onibus.learner.run_files.sessions import SESSIONS_FILE
from onibus.learner.run_files.specs import found_specs
from onibus.learner.run_files.versions import kept_versions
from onibus.learner.training import _open_run
from tests.command import REPOSITORY, run_onibus, the_one_line
from tests.learner.recorded_run import recorded_run
from tests.learner.runs import SMALL, learn_to_the_end

_HOLD = """
import sys, time
from pathlib import Path
from onibus.learner.run_files.run_lock import only_learner_of
with only_learner_of(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_learner_of_a_run_is_refused_and_a_dead_one_is_in_nobodys_way(tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    command = [sys.executable, "-c", _HOLD, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(OnibusError, match=f"a-run is being trained by process {holder.pid} on "):
                only_learner_of(folder).__enter__()
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with only_learner_of(folder):
                assert json.loads((folder / LOCK_FILE).read_text())["pid"] == os.getpid()
        finally:
            holder.kill()


def test_a_lock_whose_file_is_empty_holds_all_the_same(tmp_path: Path) -> None:
    with only_learner_of(tmp_path):
        (tmp_path / LOCK_FILE).write_text("")
        with pytest.raises(OnibusError, match="is being trained; stop that"):
            only_learner_of(tmp_path).__enter__()


@pytest.mark.parametrize(
    "name", ["a" * 201, "å" * 101, "a/b", "../a", "..", "", " ", "a\nb", "a\0b", "a\x1bb"]
)
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(OnibusError, match=r"^--run [^\n\x1b\0]{3,300}$"):
        check_run_name(name)


def test_ordinary_names_are_taken() -> None:
    for name in ("keyroom-s5-retrieval-20261126-090000", "Läufe 3", "a.b", "a" * 200):
        assert check_run_name(name) == name


@pytest.mark.parametrize("name", ["r" * 300, "a/b", "bell\x07"])
@pytest.mark.parametrize("command", ["learn", "rollout", "demo"])
def test_each_command_says_so_in_one_line(tmp_path: Path, command: str, name: str) -> None:
    line = the_one_line(run_onibus(command, "--run", name, folder=tmp_path))
    assert "--run" in line
    assert not list(tmp_path.iterdir())


def test_a_report_of_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    for name in ("r" * 300, "a/b"):
        assert "no run" in the_one_line(run_onibus("report", name, folder=tmp_path))


def test_only_a_run_that_is_there_can_be_resumed(tmp_path: Path) -> None:
    line = the_one_line(run_onibus("learn", "--run", "never-began", "--resume", folder=tmp_path))
    assert "no run never-began" in line
    assert "leave --resume out" in line
    assert not (tmp_path / "runs").exists()
    assert "--resume needs the --run" in the_one_line(run_onibus("learn", "--resume", folder=tmp_path))


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path / "a-run")
    (folder / "report.html").mkdir()
    with pytest.raises(
        OnibusError, match=r"cannot write .*report\.html: Is a directory; free some space, or make"
    ):
        write_report(folder, None)


@pytest.mark.parametrize("content", ["", "{", "[[1", "null", "7", '{"a": 3}', "[3]", "\0\0\0\0"])
def test_broken_state_files_are_passed_over(tmp_path: Path, content: str) -> None:
    for name in ("captions.json", "specs.json", "scores.json", "judged.json", "versions.json", "sessions"):
        (tmp_path / name).write_text(content)
    assert CaptionTally.load(tmp_path).totals == {}
    assert found_specs(tmp_path) == {}
    assert kept_scores(tmp_path) == {}
    assert not kept_captions(tmp_path)
    assert not kept_versions(tmp_path)
    options = make_options("keyroom-s5", run="a-run")
    sessions = 7 if content == "7" else 0
    assert _open_run(options, tmp_path) == sessions
    assert (tmp_path / SESSIONS_FILE).read_text() == f"{sessions + 1}\n"


def test_a_lost_count_of_sessions_does_not_play_the_first_games_again(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    for second in range(3):
        (tmp_path / "tensorboard" / f"events.out.tfevents.{second}.host").touch()
    (tmp_path / SESSIONS_FILE).write_text("")
    assert _open_run(make_options("keyroom-s5", run="a-run"), tmp_path) == 3


def test_a_tally_outlives_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text("[[1, 2")
    tally = CaptionTally.load(tmp_path)
    tally.add(np.array([5, 5]), np.array([1.0, 0.5], np.float32))
    tally.save(tmp_path)
    assert CaptionTally.load(tmp_path).totals[5].reward == 1.5
    assert list(tmp_path.iterdir()) == [tmp_path / "captions.json"]


def test_history_and_report_go_on_behind_a_row_that_was_cut(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path / "a-run")
    history = folder / "history.jsonl"
    lines = history.read_text().splitlines()
    lines[3:6] = [lines[3][:20] + lines[4], "\0\0\0", "{}"]
    history.write_text("\n".join(lines[:-1]) + "\n")
    assert len(read_history(folder)) == 17
    assert last_seconds(folder) == 19.0
    (folder / "system.jsonl").write_text('{"seconds": 1.0}\n{"sec\n{"seconds": 2.0}\n')
    assert "<b>19,000</b><span>environment steps" in write_report(folder, None).read_text()


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_refused_with_the_pid_of_its_learner(settings: Settings) -> None:
    with only_learner_of(settings.runs_dir / "a-run"):
        line = the_one_line(learn_to_the_end(settings, "--run", "a-run", *SMALL))
    assert f"run a-run is being trained by process {os.getpid()} on " in line


@pytest.mark.slow
def test_a_report_whose_side_files_cannot_be_written_is_one_line(settings: Settings) -> None:
    folder = recorded_run(settings.runs_dir / "a-run")
    (folder / "judged.json").mkdir()
    environment = environment_of(settings)
    line = the_one_line(run_onibus("report", folder, folder=settings.runs_dir, environment=environment))
    assert f"cannot write {folder / 'judged.json'}: Is a directory" in line
