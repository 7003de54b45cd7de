"""What a sweep shows: the runs that matter first, and no number cut at 80 columns."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

from onibus.infra.process.terminal import console
from onibus.infra.settings import load_settings
from onibus.learner.options import save_options
from onibus.learner.sweeping.running import DONE, FAILED, RUNNING, SweepRunner
from onibus.learner.sweeping.sweep_file import read_sweep
from onibus.learner.sweeping.view import line, table


def test_a_table_fits_a_terminal_and_has_failed_and_running_runs_first(tmp_path: Path) -> None:
    sweep = read_sweep("goal-steers")
    runner = SweepRunner(load_settings(runs_dir=tmp_path), sweep, 2, threading.Event())
    names = [options.run for options in sweep.runs]
    runner.states |= {names[0]: DONE, names[4]: RUNNING, names[7]: FAILED}
    save_options(sweep.runs[4], tmp_path / names[4])
    row = {
        "env_steps": 1_234_567.0,
        "steps_per_second": 12_345.6,
        "return": -1234.5678,
        "intrinsic_return": 0.25,
    }
    (tmp_path / names[4] / "history.jsonl").write_text(json.dumps(row) + "\n")
    out = io.StringIO()
    console(file=out, width=80).print(table(runner, sweep.runs, 6))
    shown = out.getvalue()
    for number in ("1,234,567", "62%", "12,346", "-1234.568", "0.250"):
        assert number in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.index("failed") < shown.index("running") < shown.index("waiting")
    assert "… 6 more" in shown
    assert "1 failed, 1 running, 9 waiting, 1 done" in shown
    assert line(runner, sweep.runs) == (
        f"1 of 12 runs done, 1 failed; running: {names[4]} 1,234,567 of 2,000,000"
    )
