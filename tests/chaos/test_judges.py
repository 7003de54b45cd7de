"""Model servers that answer and are no good: what annotators must notice, and what must not end them."""

from __future__ import annotations

from pathlib import Path

import pytest

from onibus.consumers.language_models.comprehension import FIRST_ANSWERS
from onibus.infra.broker import RunningBroker
from tests.chaos.system import CONCURRENCY, running_system
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_judge_that_is_never_understood_is_asked_no_more_and_nothing_is_lost(
    broker: RunningBroker, tmp_path: Path
) -> None:
    with running_system(broker.client_settings(), tmp_path, 1_000, rate=500, copies=1) as system:
        system.model.behaviour.thinks = True
        names = ("a1", "a2")
        for name in names:
            system.start(name)
        system.publish()
        wait_until(lambda: all(system.exit_code(name) is not None for name in names), 60, "both to end")
        for name in names:
            assert system.exit_code(name) == 2
            errors = [line for line in system.log(name).splitlines() if line.startswith("onibus: ")]
            assert len(errors) == 1, system.log(name)
            assert f"none of the first {FIRST_ANSWERS} answers of m under spec goals" in errors[0]
            assert "The player may" in errors[0]
            assert "it was cut at max_tokens 1024: raise" in errors[0]
            assert "Traceback" not in system.log(name)
        # What was on its way comes back, too, and the first of it has been asked about again meanwhile.
        assert system.model.requests <= len(names) * (2 * FIRST_ANSWERS + 2 * CONCURRENCY)
        system.model.behaviour.thinks = False
        system.revive()
        found = system.finish(timeout=60)
        print(found.line())
        assert found.problems == []
        assert found.captions == 1_000


def test_refusals_of_single_requests_end_no_annotator_and_lose_only_their_captions(
    broker: RunningBroker, tmp_path: Path
) -> None:
    with running_system(broker.client_settings(), tmp_path, 1_000, rate=500, copies=1) as system:
        names = ("a1", "a2")
        for name in names:
            system.start(name)
        system.wait_ready()
        system.model.behaviour.moderates = 50
        system.model.behaviour.not_found = 0.05
        system.publish()
        found = system.finish(timeout=90)
        print(found.line())
        assert found.problems == []
        print(*(system.log(name) for name in names), sep="\n\n")
        assert system.revived == 0
        moderated = sum(system.model.behaviour.is_moderated(text) for text in system.captions)
        assert moderated > 0
        assert found.dead_letters == found.unsure == moderated
