"""The report: one page that needs nothing else, made of a run's files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from infra.errors import OnibusError
from learner.judged_captions import JudgedCaption
from learner.options import make_options, save_options
from learner.report import write_report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a-run"
    save_options(make_options("keyroom-s5", run="a-run"), folder)
    rows = [
        {
            "time": 1e9 + n,
            "seconds": float(n),
            "env_steps": 1000.0 * n,
            "return": n / 10 - 1,
            "intrinsic_return": n / 20,
            "gold": 0.0,
            "turns": float(n),
            "episodes_averaged": 100.0,
        }
        for n in range(20)
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / "history.jsonl").write_text("\n".join(lines) + '\n{"cut sho')
    return folder


CAPTIONS = [
    JudgedCaption("g - a key", "helpful", "matches key", 10, 5.0),
    JudgedCaption("<b>odd & bold</b>", "unhelpful", "", 99, 0.0),
]


def test_the_page_needs_nothing_from_anywhere(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert "<script" not in page
    assert page.count("<svg") >= 3


def test_captions_and_their_verdicts_are_listed_and_escaped(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert "g - a key" in page
    assert "&lt;b&gt;odd &amp; bold&lt;/b&gt;" in page
    assert "<b>odd" not in page


def test_figures_are_the_last_ones_of_the_history(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert "<b>19,000</b><span>environment steps" in page
    assert "<b>0.900</b><span>mean return" in page


def test_statistics_that_never_change_have_no_chart(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert "<figcaption>Game turns" in page
    assert "<figcaption>Gold" not in page


def test_without_the_annotation_log_the_page_says_so(run: Path) -> None:
    assert "could not be read" in write_report(run, None).read_text()


def test_a_run_without_history_or_no_run_is_one_clear_line(tmp_path: Path, run: Path) -> None:
    with pytest.raises(OnibusError, match="no run"):
        write_report(tmp_path, None)
    (run / "history.jsonl").unlink()
    with pytest.raises(OnibusError, match="no history yet"):
        write_report(run, None)
