"""A spec is announced by an annotator that can ask: one whose server or model is wrong takes no name over."""

from __future__ import annotations

import pytest

from onibus.consumers.specs.spec_file import load_spec_file, publish_specs, read_specs
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import ids
from tests.command import run_onibus

pytestmark = pytest.mark.slow


def test_an_annotator_without_a_server_announces_nothing(settings: Settings) -> None:
    in_use = load_spec_file("goals").for_rules()
    publish_specs(settings, [in_use])
    wrong = ("--llm", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "NAME")
    environment = environment_of(settings)
    done = run_onibus(
        "annotate", "--spec", "goals", *wrong, folder=settings.runs_dir, environment=environment
    )
    assert done.returncode == 2
    assert "no answer from" in done.stderr
    assert list(read_specs(settings)) == [ids.spec_id(in_use)]
