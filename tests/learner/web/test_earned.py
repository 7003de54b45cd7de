"""What captions earned counts under the specs that rewarded them, and under no others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.live_index import LabelBoard
from onibus.consumers.labels.web import PageOptions, label_site
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.settings import load_settings
from onibus.learner.options import make_options, save_options
from onibus.learner.run_files.specs import keep_specs
from onibus.learner.web.earned import EarnedInRuns
from onibus.schemas import ids
from tests.consumers.reward_models.annotation_logs import SPEC, SPEC_ID, SPEC_NAME, TEXTS, annotation

GOALS = load_spec_file("goals").for_rules()
GOALS_ID = ids.spec_id(GOALS)
CAPTION = TEXTS[0]


def make_run(runs_dir: Path, name: str, steps: int, earned: float, **options: Any) -> Path:
    """A run in which the caption came up so often and earned so much."""
    folder = runs_dir / name
    save_options(make_options("keyroom-s5", run=name, **options), folder)
    lookup = ids.lookup_id(ids.caption_id(CAPTION))
    (folder / "captions.json").write_text(json.dumps([[lookup, steps, earned]]))
    return folder


def rows(runs_dir: Path) -> dict[str, tuple[int, float]]:
    """Steps and reward beside the caption's label under each spec, as the page has them."""
    earned = EarnedInRuns(runs_dir)
    earned.look()
    board = LabelBoard()
    log = [replace(annotation(CAPTION), spec_id=spec_id) for spec_id in (SPEC_ID, GOALS_ID)]
    board.apply(LoggedAnnotation(0, n, n, one) for n, one in enumerate(log))
    known = KnownSpecs({SPEC_ID: SPEC, GOALS_ID: GOALS})
    site = label_site(load_settings(), board, known, PageOptions(earned=earned))
    found = TestClient(site, base_url="http://127.0.0.1").get("/labels").json()["labels"]
    return {row["spec"]: (row["steps"], row["reward"]) for row in found}


def test_a_label_stands_beside_what_was_paid_under_its_spec(tmp_path: Path) -> None:
    keep_specs(make_run(tmp_path, "keys", 12, 3.5), {SPEC_NAME: SPEC_ID})
    make_run(tmp_path, "unpaid", 100, 0.0, reward="none")
    make_run(tmp_path, "spec-not-found", 5, 0.0)
    assert rows(tmp_path) == {SPEC_NAME: (17, 3.5), "goals": (0, 0.0)}
    keep_specs(make_run(tmp_path, "both", 1, 2.0), {SPEC_NAME: SPEC_ID, "goals@rules": GOALS_ID})
    make_run(tmp_path, "named", 2, 0.25, specs=("goals",))
    assert rows(tmp_path) == {SPEC_NAME: (18, 5.5), "goals": (3, 2.25)}


def test_the_page_says_which_runs_it_counts(tmp_path: Path) -> None:
    site = label_site(
        load_settings(), LabelBoard(), KnownSpecs({}), PageOptions(earned=EarnedInRuns(tmp_path))
    )
    page = TestClient(site, base_url="http://127.0.0.1").get("/").text
    assert 'title="In runs rewarded under the spec of the row;' in page
    assert "Steps and reward: in runs rewarded under the spec of the row;" in page
