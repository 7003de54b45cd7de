"""The report: one page that needs nothing else, made of a run's files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.version import version
from onibus.learner.reporting.report import LISTED, _columns, write_report
from onibus.learner.run_files.judged_captions import JudgedCaption
from onibus.learner.run_files.judging import Agreement, Answers, SpecJudging
from onibus.learner.run_files.parts import record_parts
from tests.learner.recorded_run import recorded_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return recorded_run(tmp_path / "a-run")


CAPTIONS = [
    JudgedCaption("g - a key", "helpful", "matches key", 10, 5.0),
    JudgedCaption("<b>odd & bold</b>", "unhelpful", "", 99, 0.0),
]


def test_the_page_needs_nothing_from_anywhere(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:image/svg)""", page)
    assert "<script" not in page
    assert page.count("<svg") >= 3


def test_captions_and_their_verdicts_are_listed_and_escaped(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert page.count("g - a key") == 1, "what earned most is not among what earned least, too"
    assert "&lt;b&gt;odd &amp; bold&lt;/b&gt;" in page
    assert "<b>odd" not in page


def test_captions_are_plotted_from_both_ends(run: Path) -> None:
    many = [JudgedCaption(f"caption {n}", "helpful", "", 10 + n, n / 2) for n in range(2 * LISTED)]
    many.append(JudgedCaption("harmful", "score -1.00", "", 5, -3.0))
    page = write_report(run, many).read_text()
    top, bottom = (re.findall(r'class="caption">([^<]*)', table) for table in page.split("<table")[1:3])
    assert top == [f"caption {n}" for n in range(2 * LISTED - 1, LISTED - 1, -1)]
    assert bottom == ["harmful", *(f"caption {n}" for n in range(LISTED - 1))]
    widths = [float(width) for width in re.findall(r'style="width: ([\d.]+)%"', page)]
    assert len(widths) == 2 * LISTED
    assert widths[:2] == [100.0, pytest.approx(100 * 28 / 29, abs=0.1)]
    assert widths[LISTED : LISTED + 2] == [pytest.approx(100 * 6 / 29, abs=0.1), 0.0]
    assert page.count('class="below"') == 1


def test_figures_are_the_last_ones_of_the_history(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert "<b>19,000</b><span>environment steps" in page
    assert "<b>0.900</b><span>mean return" in page


def test_what_is_known_of_a_reward_model_is_told_and_charted(run: Path) -> None:
    history = run / "history.jsonl"
    rows = [json.loads(line) for line in history.read_text().splitlines()[:-1]]
    for n, row in enumerate(rows, 1):
        row |= {"model_version": 3.0, "model_age_seconds": 7.0 / n}
        row |= {"label_to_reward_p50": 0.25 * n / len(rows), "label_to_reward_p95": 1.5}
    history.write_text("\n".join(json.dumps(row) for row in rows))
    versions = [
        {
            "version": n,
            "held_out_accuracy": 0.9 + n / 100,
            "held_out_precision": 0.25,
            "held_out": 80.0,
            "held_out_positive": 5.0,
        }
        for n in (1, 2, 3)
    ]
    (run / "versions.json").write_text(json.dumps(versions))
    page = write_report(run, CAPTIONS).read_text()
    assert "<b>3</b><span>version of the reward model" in page
    assert "<b>93.0%</b><span>held-out accuracy" in page
    assert "<b>25.0%</b><span>held-out precision" in page
    assert "<b>5 of 80</b><span>helpful of the held-out captions" in page
    assert "5 of 80 helpful" in page
    assert "<b>0.25 / 1.50 s</b><span>caption to first reward" in page
    for chart in ("Held-out accuracy of the reward model", "Age of the reward model", "From the first sight"):
        assert f"<figcaption>{chart}" in page


def test_without_a_reward_model_there_is_no_word_of_one(run: Path) -> None:
    assert "reward model" not in write_report(run, CAPTIONS).read_text()


def test_statistics_that_never_change_have_no_chart(run: Path) -> None:
    page = write_report(run, CAPTIONS).read_text()
    assert "<figcaption>Game turns" in page
    assert "<figcaption>Gold" not in page


def test_what_never_changes_has_no_chart_and_what_is_not_known_no_figure(run: Path) -> None:
    (run / "system.jsonl").write_text(
        "\n".join(json.dumps({"seconds": n, "consumer_lag": 0}) for n in range(9))
    )
    (run / "history.jsonl").write_text(
        "\n".join(
            json.dumps(
                {"seconds": n, "env_steps": 9.0 * n, "return": n / 9, "label_coverage": 1.0, "score": 5.0}
            )
            for n in range(9)
        )
    )
    page = write_report(run, []).read_text()
    assert re.findall("<figcaption>(.*?) <a", page) == ["Extrinsic return"]
    assert "–</b>" not in page
    assert "intrinsic" not in page.split("<h2>Settings")[0].lower().replace("extrinsic", "")
    assert "<h2>Captions" not in page, "there are none to list"


def test_losses_and_the_part_of_each_spec_are_charted(run: Path) -> None:
    history = run / "history.jsonl"
    rows = [json.loads(line) for line in history.read_text().splitlines()[:-1]]
    for n, row in enumerate(rows):
        row |= {
            "entropy": 2 - n / 20,
            "policy_loss": n / 9,
            "value_loss": 1 / (n + 1),
            "gradient_norm": float(n),
        }
        row |= {"intrinsic_return_by_gold": n / 3, "intrinsic_return_by_stairs": n / 5}
    history.write_text("\n".join(map(json.dumps, rows)))
    page = write_report(run, []).read_text()
    for title in ("Entropy of the policy", "Policy loss", "Value loss", "Intrinsic return by spec"):
        assert f"<figcaption>{title} <a" in page


def test_a_long_run_does_not_make_a_large_page(run: Path) -> None:
    rows = [{"seconds": n, "env_steps": 100.0 * n, "return": float(n % 7919)} for n in range(50_000)]
    (run / "history.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(write_report(run, []).read_text()) < 300_000


JUDGING = SpecJudging(
    name="keys-and-doors",
    spec_id="0123456789abcdef",
    goal="Find the <key>.",
    kind="judge_one",
    model="some/model",
    revision="r1",
    prompt="Judge this: {{ caption | quoted }}",
    answers=[Answers("llm", "some/model", "r1", 1_234), Answers("human", "", "", 12)],
    labels={"helpful": 34, "unhelpful": 1_200},
    people=Agreement(12, 11, 0.8),
    tokens=56_789,
    usd=0.0123,
    times=[1e9 + n for n in range(0, 20, 2)],
    verdicts={"helpful": list(range(10)), "unhelpful": [10 * n + 1 for n in range(10)]},
)


def test_who_judged_is_told_with_agreement_and_money(run: Path) -> None:
    page = write_report(run, CAPTIONS, judging=[JUDGING]).read_text()
    section = page.split("<h2>Who judged")[1]
    for told in ("some/model", "(r1)", "× 0.5", "Find the &lt;key&gt;.", "1,234", "11 of 12 alike", "κ 0.80"):
        assert told in section, told
    assert "{{ caption | quoted }}" in section
    assert "$0.0123" in section
    assert "<b>$0.0123</b><span>cost of the answers" in page
    assert "<b>11 of 12</b><span>judged as people did" in page
    assert "<figcaption>Verdicts under keys-and-doors" in page


def test_money_is_told_where_it_is_known_alone(run: Path) -> None:
    page = write_report(run, CAPTIONS, judging=[replace(JUDGING, usd=None)]).read_text()
    assert "$" not in page
    assert "cost" not in page


def test_versions_are_those_of_the_run(run: Path) -> None:
    assert "did not record what it was made with" in write_report(run, []).read_text()
    record_parts(run, {})
    rows = [json.loads(line) for line in (run / "parts.jsonl").read_text().splitlines()]
    before = rows[0] | {"onibus": "0.0.9 (commit 0123456789ab)", "torch": "1.0"}
    (run / "parts.jsonl").write_text("\n".join(map(json.dumps, [before, *rows])) + "\n")
    page = write_report(run, []).read_text()
    assert "did not record" not in page
    assert f"0.0.9 (commit 0123456789ab) → {version()}" in page
    assert page.count("→") == 2


@pytest.mark.parametrize("count", range(1, 20))
def test_no_figure_is_alone_in_its_row_but_over_all_of_it(count: int) -> None:
    for most in (6, 4, 2):
        columns, alone = _columns(count, most)
        assert 1 <= columns <= most
        assert alone == (count % columns == 1 and columns > 1 and count > columns)
        assert not (alone and most == 6)


def test_causes_of_death_are_listed_with_their_share(run: Path) -> None:
    page = write_report(run, CAPTIONS, [("killed by a newt", 3), ("<b>starved</b>", 1)]).read_text()
    _, table = page.split("Causes of death")
    assert "of 4 recorded episodes" in table
    shown = re.findall(r'class="caption">(.*?)</td><td class="n">(.*?)</td><td class="n">(.*?)</td>', table)
    assert shown[:2] == [("killed by a newt", "3", "75%"), ("&lt;b&gt;starved&lt;/b&gt;", "1", "25%")]
    assert "Causes of death" not in write_report(run, CAPTIONS).read_text()


def test_success_and_progression_are_told_and_charted_where_there_are_any(run: Path) -> None:
    plain = write_report(run, CAPTIONS).read_text()
    assert not re.search("successful|progression", plain)
    history = run / "history.jsonl"
    rows = [json.loads(line) for line in history.read_text().splitlines()[:-1]]
    more = [{"success": n / 40, "progression": n / 1000, "scout": 9.0 * n, "kills": n} for n in range(20)]
    history.write_text("\n".join(json.dumps(row | new) for row, new in zip(rows, more, strict=True)))
    page = write_report(run, CAPTIONS).read_text()
    assert "<b>48%</b><span>successful episodes" in page
    assert "<b>1.90%</b><span>mean progression" in page
    for title in ("Share of successes", "Progression", "Squares seen", "Kills"):
        assert f"<figcaption>{title}" in page


def test_statistics_of_the_users_own_task_are_charted(run: Path) -> None:
    history = run / "history.jsonl"
    rows = [json.loads(line) for line in history.read_text().splitlines()[:-1]]
    for n, row in enumerate(rows):
        row |= {"episode/key_taken": n / len(rows)}
    history.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert "Key taken" in write_report(run, CAPTIONS).read_text()


def test_without_the_annotation_log_the_page_says_so(run: Path) -> None:
    assert "could not be read" in write_report(run, None).read_text()


def test_a_run_without_history_or_no_run_is_one_clear_line(tmp_path: Path, run: Path) -> None:
    with pytest.raises(OnibusError, match="no run"):
        write_report(tmp_path, None)
    (run / "history.jsonl").unlink()
    with pytest.raises(OnibusError, match="no history yet"):
        write_report(run, None)
