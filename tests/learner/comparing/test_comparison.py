"""Comparisons of runs whose answers are known; a run held against itself is no better."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from onibus.infra.errors import OnibusError
from onibus.learner.comparing.comparison import Comparison, band, compare, cost, final_value
from onibus.learner.comparing.groups import differing, grouped, read_run
from onibus.learner.comparing.page import export, write_csv, write_page
from tests.command import run_onibus, the_one_line
from tests.learner.comparing.made_runs import made_run, three_groups


def compared(folders: list[Path]) -> Comparison:
    return compare(grouped([read_run(folder) for folder in folders]))


def test_runs_that_differ_in_their_seed_alone_are_a_group(tmp_path: Path) -> None:
    groups = compared(three_groups(tmp_path)).groups
    assert [group.name for group in groups] == ["retrieval, gold=0.1", "retrieval, stairs=0.1", "none"]
    assert [[run.options.seed for run in group.runs] for group in groups] == [[1, 2, 3]] * 3
    assert dict(differing(groups)) == {
        "reward": ["retrieval", "retrieval", "none"],
        "specs": ["gold=0.1", "stairs=0.1", "–"],
    }


def test_other_settings_name_their_group(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / f"{rate}", 1.0, learning_rate=rate) for rate in (0.1, 0.2)]
    assert [group.name for group in compared(folders).groups] == ["learning rate 0.1", "learning rate 0.2"]


def test_final_values_and_probabilities_are_what_they_must_be(tmp_path: Path) -> None:
    comparison = compared(three_groups(tmp_path))
    assert comparison.metrics == ["return"]
    gold, stairs, none = comparison.groups
    assert comparison.finals(gold, "return") == [11.0, 12.0, 13.0]
    found = {(one.ours, one.theirs): one.probability.value for one in comparison.improvements("return")}
    assert found[gold.name, stairs.name] == 1.0
    assert found[stairs.name, gold.name] == 0.0
    wins, ties = 6, 2  # of 5, 6, 7 over 4, 5, 6
    assert found[stairs.name, none.name] == pytest.approx((wins + ties / 2) / 9)
    cuts, profiles = comparison.profiles("return")
    assert cuts[0] < 4.0
    assert profiles[gold.name][0] == 1.0
    assert profiles[none.name][-1] == 0.0


def test_a_comparison_of_runs_with_themselves_shows_no_difference(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / f"run-{seed}", seed, seed=seed) for seed in (1, 2, 3)]
    comparison = compared([*folders, *folders])
    once, again = comparison.groups
    assert again.name == f"{once.name} (again)"
    assert comparison.finals(once, "return") == comparison.finals(again, "return")
    assert [one.probability.value for one in comparison.improvements("return")] == [0.5, 0.5]
    assert differing(comparison.groups) == []
    alone = compared([folders[0], folders[0]])
    assert [one.probability.value for one in alone.improvements("return")] == [0.5, 0.5]


def test_the_band_holds_the_mean_over_seeds_and_ends_where_the_shortest_run_does(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / f"{n}", float(n), seed=n, steps=900 + 100 * n) for n in (1, 2, 3)]
    drawn = band(compared(folders).groups[0], "return")
    assert drawn is not None
    assert drawn.steps[-1] == 1000
    assert (drawn.low <= drawn.mean + 1e-9).all()
    assert (drawn.mean <= drawn.high + 1e-9).all()
    assert (drawn.low[-1], drawn.mean[-1], drawn.high[-1]) == (1.0, 2.0, 3.0)
    alone = band(compared(folders[:1]).groups[0], "return")
    assert alone is not None
    assert np.isnan(alone.low).all()


def test_runs_of_different_lengths_are_compared_at_equal_steps(tmp_path: Path) -> None:
    short, long = (made_run(tmp_path / f"{n}", 1.0, seed=n, steps=n * 1000) for n in (1, 2))
    whole = read_run(long)
    first = [read_run(folder, 1000) for folder in (short, long)]
    assert [run.env_steps for run in first] == [1000, 1000]
    assert whole.env_steps == 2000
    (group,) = grouped(first)
    assert [run.options.seed for run in group.runs] == [1, 2]
    with pytest.raises(OnibusError, match="--first-steps 1500: run 1 has 1,000 steps; give fewer"):
        read_run(short, 1500)


def test_what_a_crash_took_back_is_counted_once(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", 1.0)
    with (folder / "history.jsonl").open("a") as history:
        for steps in (600, 700):  # went on from a checkpoint of 600 steps
            row = {"seconds": 400.0, "env_steps": steps, "cpu_seconds": 5.0, "return": 9.0}
            history.write(json.dumps(row) + "\n")
    run = read_run(folder)
    steps = [row["env_steps"] for row in run.rows]
    assert steps == sorted(set(steps))
    assert run.env_steps == 700
    assert final_value(run, "return") == pytest.approx(9.0)
    assert run.cpu_seconds == pytest.approx(59 * 7.2 + 5.0)


def test_what_runs_cost_is_summed(tmp_path: Path) -> None:
    spent = cost(compared([made_run(tmp_path / f"{n}", 1.0, seed=n) for n in (1, 2)]).groups[0])
    assert (spent.env_steps, spent.hours, spent.cpu_hours) == (2000.0, 0.2, 0.4)
    assert spent.steps_per_second == pytest.approx(2000 / 720)


def test_groups_of_other_tasks_are_not_said_to_be_better(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / task, 1.0, task=task) for task in ("score", "gold")]
    assert list(compared(folders).improvements("return")) == []


def test_the_page_and_the_files_for_papers(tmp_path: Path) -> None:
    comparison = compared(three_groups(tmp_path / "runs"))
    write_page(comparison, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert "retrieval, gold=0.1" in page
    assert not re.search(r"(src|href)=\"http", page)
    export(comparison, tmp_path / "charts")
    assert sorted(file.name for file in (tmp_path / "charts").iterdir()) == [
        *("curve-return.pdf", "curve-return.svg", "curves.csv", "profile-return.pdf", "profile-return.svg")
    ]
    assert (tmp_path / "charts" / "curve-return.pdf").read_bytes().startswith(b"%PDF")
    export(compare(comparison.groups, ["return", "intrinsic_return"]), tmp_path / "two")
    assert {"curves.svg", "curves.pdf"} <= {file.name for file in (tmp_path / "two").iterdir()}
    write_csv(comparison, tmp_path / "runs.csv")
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert [row["final_return"] for row in rows] == [f"{x + n}.0" for x in (10, 4, 3) for n in (1, 2, 3)]
    assert rows[0]["specs"] == "gold=0.1"


def test_a_run_without_history_is_one_clear_line(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", 1.0)
    (folder / "history.jsonl").unlink()
    with pytest.raises(OnibusError, match="run run has no history yet"):
        read_run(folder)


@pytest.mark.slow
@pytest.mark.integration
def test_the_command(tmp_path: Path) -> None:
    three_groups(tmp_path / "runs")
    names = ("gold-1", "gold-2", "runs/stairs-1")
    shown = run_onibus("compare", *names, "--json", "--csv", "a.csv", "--export", "charts", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert [group["seeds"] for group in found["groups"]] == [[1, 2], [1]]
    assert found["groups"][0]["final"]["return"]["value"] == 11.5
    assert (tmp_path / "runs" / "comparison.html").exists()
    assert (tmp_path / "charts" / "curve-return.svg").exists()
    assert "no run x" in the_one_line(run_onibus("compare", "x", folder=tmp_path))
    wrong = run_onibus("compare", "gold-1", "--metric", "gild", folder=tmp_path)
    assert "choose from return" in the_one_line(wrong)
