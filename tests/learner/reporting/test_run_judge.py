"""What a run's reward pays for a caption, worked out afterwards from labels, a model, or neither."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from onibus.consumers.replay.judges import load_model
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions, load_options, make_options
from onibus.learner.reporting.run_judge import Judgement, RunJudge, not_judged
from onibus.learner.run_files.specs import keep_specs
from tests.consumers.replay.running import onibus
from tests.recorded import topics

RECORDED = Path(__file__).parents[2] / "recorded" / "v0_1_0"
SPEC_ID = bytes.fromhex("7150fff8fd844203")
KEY = "You see here a key named The Master Key of Thievery."
WALL, NEW = "It's a wall.", "A caption that no one has judged."

pytestmark = pytest.mark.slow


@pytest.fixture
def recorded(settings: Settings) -> Settings:
    """Topics of version 0.1.0: labels, models and episodes."""
    topics.publish(settings, RECORDED / "topics.avro")
    keep_specs(settings.runs_dir, {"keys-and-doors": SPEC_ID})
    return settings


def judge(settings: Settings, **given: object) -> RunJudge:
    options: LearnOptions = make_options("keyroom-s5", run="a-run", **given)
    return RunJudge(settings, options, settings.runs_dir)


def test_labels_pay_with_the_runs_coefficient_and_fade_with_its_exponent(recorded: Settings) -> None:
    by_labels = judge(recorded, specs=["keys-and-doors=0.8"], count_beta=2.0)
    assert by_labels(KEY, 1) == Judgement("helpful", pytest.approx(0.8))
    assert by_labels(KEY, 4) == Judgement("helpful", pytest.approx(0.8 / 16))
    assert by_labels(WALL, 1) == Judgement("unhelpful", 0.0)
    assert by_labels(NEW, 1) == by_labels(None, 0) == not_judged(KEY, 1) == Judgement("", 0.0)


def test_a_model_pays_what_has_no_label_and_everything_where_labels_do_not_count(recorded: Settings) -> None:
    model = load_model(recorded, f"keys-and-doors-{SPEC_ID.hex()}")
    p_key, p_new = model.probability([(KEY,), (NEW,)])
    by_both = judge(recorded, reward="classification")
    assert by_both(KEY, 1) == Judgement("helpful", pytest.approx(0.5))
    assert by_both(NEW, 1) == Judgement(f"score {p_new:.2f}", pytest.approx(0.5 * (p_new > 0.5)))
    by_model = judge(recorded, reward="classification", known_labels=False, reward_threshold=float(p_key))
    assert by_model(KEY, 1).reward == 0.0, "it is not above the threshold, whatever its label"


def test_a_reward_of_the_users_own_is_not_guessed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_reward.py").write_text(
        "class Nothing:\n    def __call__(self, batch):\n        return 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OnibusError, match="own_reward:Nothing pays cannot be worked out for single captions"):
        judge(settings, reward="own_reward:Nothing")


def test_a_run_without_intrinsic_reward_pays_nothing(recorded: Settings) -> None:
    assert judge(recorded, reward="none")(KEY, 1) == Judgement("", 0.0)


def test_a_run_of_an_older_version_has_its_judges_in_the_report(recorded: Settings) -> None:
    with tarfile.open(RECORDED / "run.tar.xz") as archive:
        archive.extractall(recorded.runs_dir, filter="data")
    folder = recorded.runs_dir / "old-run"
    assert load_options(folder).reward == "classification"
    page = Path(onibus(recorded, "report", str(folder)).strip()).read_text()
    assert "<h2>Who judged" in page
    assert SPEC_ID.hex() in page
    assert "Of the last episodes recorded" not in page, "those on the topic are of another run"
