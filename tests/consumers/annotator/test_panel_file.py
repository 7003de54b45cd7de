"""The file of a panel: its faults, its keys, and the spec id, budget and command that follow from it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from onibus.consumers.annotator.budget import dearest_question
from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.panel_file import JudgeEntry, PanelFile, load_panel_file
from onibus.consumers.annotator.run import annotation_specs, language_model, spending_limits
from onibus.consumers.language_models.base import ModelRefusedError
from onibus.consumers.language_models.panel import PanelModel
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings, environment_of
from tests.command import run_onibus, start_onibus, the_one_line
from tests.consumers.annotating import publish, wait_for_labels
from tests.consumers.annotator.panels import (
    GOLD,
    SPEC,
    WALLS,
    about_gold,
    asked,
    options_for,
    says,
    servers,
)
from tests.waiting import wait_until


def test_the_spec_id_depends_on_every_judge_and_not_on_their_order() -> None:
    def spec_id(*models: tuple[str, str]) -> bytes:
        judges = tuple(JudgeEntry(model=m, model_revision=r, base_url="http://x/v1") for m, r in models)
        options = AnnotateOptions(specs=(SPEC,), panel=PanelFile(judge=judges))
        (found,) = annotation_specs([load_spec_file(SPEC)], options)
        return found

    alone = annotation_specs(
        [load_spec_file(SPEC)],
        AnnotateOptions(specs=(SPEC,), llm="openai", model="a", base_url="http://x/v1"),
    )
    found = [
        spec_id(("a", ""), ("b", "")), spec_id(("a", ""), ("c", "")), spec_id(("a", ""), ("b", "2")),
        spec_id(("a", ""), ("b", ""), ("c", "")), *alone,
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert spec_id(("b", ""), ("a", "")) == found[0]
    with pytest.raises(OnibusError, match="the panel has a@1 twice"):
        spec_id(("a", "1"), ("a", "1"))


def test_a_budget_reckons_with_every_judge_at_its_own_price() -> None:
    with servers(says(about_gold), says(about_gold), says(about_gold)) as running:
        limits = spending_limits(options_for(running, budget_usd=1.0, price_out=10.0))
    assert limits is not None
    (spec,) = annotation_specs([load_spec_file(SPEC)], options_for(running)).values()
    one = dearest_question([spec])
    whole = limits.of_all_judges(one)
    assert whole.tokens == 3 * one.tokens
    expected = ((1 + 2 + 3) * one.tokens_in + 3 * 10 * one.tokens_out) / 1e6
    assert limits.prices.usd(whole) == pytest.approx(expected)
    with_budget = options_for(running, budget_usd=1.0)
    for others in (JudgeEntry(), JudgeEntry(price_in=0, price_out=0)):
        unpriced = replace(with_budget, panel=PanelFile(judge=(others, others)))
        with pytest.raises(OnibusError, match="price_in and price_out for each judge"):
            spending_limits(unpriced)
    free, priced = JudgeEntry(price_in=0, price_out=0), JudgeEntry(price_in=1)
    with_free = replace(with_budget, panel=PanelFile(judge=(free, priced)))
    assert spending_limits(with_free) is not None


def test_keys_go_to_their_own_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-one")
    (tmp_path / "key").write_text("secret-two\n")
    with servers(*[says(about_gold)] * 3) as running:
        path = tmp_path / "judges.toml"
        keys = ("", 'key_env = "OPENAI_API_KEY"', f'key_file = "{tmp_path / "key"}"')
        path.write_text(
            "".join(
                f'[[judge]]\nmodel = "m{n}"\nbase_url = "{server.url}"\n{key}\n'
                for n, (server, key) in enumerate(zip(running, keys, strict=True))
            )
        )
        options = AnnotateOptions(specs=(SPEC,), panel=load_panel_file(path))
        model = language_model([load_spec_file(SPEC)], options)
        assert isinstance(model, PanelModel)
        (spec_id,) = annotation_specs([load_spec_file(SPEC)], options)
        asked(model, spec_id, GOLD[0])
        assert [server.keys for server in running] == [
            {"Bearer none"}, {"Bearer secret-one"}, {"Bearer secret-two"}
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[judge]]\nmodel = 'a'\n", "judge: gives 1; a panel has 2 to 100 judges"),
        ("[judge]\nmodel = 'a'\n", "judge: write [[judge]] above the fields of each judge"),
        (
            "[[judge]]\nrequest_timeout = inf\n[[judge]]\n",
            "judge 1.request_timeout: Input should be",
        ),
        ("patience = inf\n[[judge]]\n[[judge]]\n", "patience: Input should be a finite number"),
        (
            "[[judge]]\nmodle = 'a'\n[[judge]]\nmodel = 'b'\n",
            "judge 1.modle: is not a field; did you mean model?",
        ),
        ("judges = 3\n", "judges: is not a field; did you mean judge?"),
        (
            "[[judge]]\nkey_env = 'A'\nkey_file = 'b'\n[[judge]]\n",
            "judge 1: has key_env and key_file; leave one out",
        ),
        ("patience = 1\n[[judge]]\n[[judge]]\n", "patience: Input should be greater than or equal to 30"),
        ("quorum = 3\n[[judge]]\n[[judge]]\n", "quorum: is more than the 2 judges; lower it"),
        (
            "[[judge]]\nllm = 'rules'\nmodel = 'a'\nflip = 0.1\n[[judge]]\n",
            "which takes no model; leave it out",
        ),
        ("[[judge\n", "is not valid TOML"),
    ],
)
def test_a_panel_file_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "judges.toml"
    path.write_text(text)
    with pytest.raises(OnibusError) as found:
        load_panel_file(path)
    assert said in str(found.value)
    assert not str(found.value).endswith("it; correct it")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (None, "No such file"),
        (b"", "is empty; write the API key into it"),
        (b"\xff\xfe", "cannot read the API key"),
        (b"\0" * 100_000, "holds characters that no key has; look at key_env or key_file of judge 'm'"),
    ],
)
def test_a_key_file_that_holds_no_key_is_named_with_its_judge(
    tmp_path: Path, contents: bytes | None, said: str
) -> None:
    path = tmp_path / "key"
    if contents is not None:
        path.write_bytes(contents)
    judges = (JudgeEntry(model="m", base_url="http://x/v1", key_file=path), JudgeEntry(llm="rules"))
    options = AnnotateOptions(specs=(SPEC,), panel=PanelFile(judge=judges))
    with pytest.raises(OnibusError, match=said) as found:
        language_model([load_spec_file(SPEC)], options)
    assert "key_file of judge 'm' in the panel file" in str(found.value)
    assert "\n" not in str(found.value)


def test_what_a_server_refuses_names_the_field_of_the_panel_file() -> None:
    with servers(lambda _: (401, {"error": "wrong key"}), lambda _: (404, {"error": "no model"})) as running:
        options = options_for(running)
        for judge, said in zip(options.judges, ("set key_env or key_file", "correct model"), strict=True):
            model = language_model([load_spec_file(SPEC)], judge)
            with pytest.raises(ModelRefusedError, match=f"{said}.* of judge '{judge.model}' in the panel"):
                asyncio.run(model.check())


def test_the_command_refuses_a_panel_beside_a_judge_and_names_what_a_judge_lacks(tmp_path: Path) -> None:
    (tmp_path / "judges.toml").write_text("[[judge]]\nmodel = 'a'\n[[judge]]\nmodel = 'b'\n")
    line = the_one_line(run_onibus("annotate", "--panel", "judges.toml", "--model", "m", folder=tmp_path))
    assert "--panel says who judges; leave out --model" in line
    line = the_one_line(run_onibus("annotate", "--panel", "judges.toml", folder=tmp_path))
    assert "judge a of the panel file needs base_url, for example http" in line


@pytest.mark.parametrize(
    ("judges", "said"),
    [
        ((JudgeEntry(llm="rules"), JudgeEntry(llm="rules")), "the panel has rules@.* twice; leave one out"),
        (
            (JudgeEntry(llm="nosuch:thing"), JudgeEntry(llm="rules")),
            "llm in the panel file: nosuch: there is no module nosuch",
        ),
    ],
)
def test_judges_that_cannot_be_are_named_as_in_the_file(judges: tuple[JudgeEntry, ...], said: str) -> None:
    options = AnnotateOptions(specs=("goals",), panel=PanelFile(judge=judges))
    with pytest.raises(OnibusError, match=f"^{said}"):
        annotation_specs([load_spec_file("goals")], options)


def test_a_panel_is_held_against_the_reference_set(tmp_path: Path) -> None:
    """Of judges who are each wrong about one caption in five, nine are right more often than three."""

    def balanced_accuracy(judges: int) -> float:
        entries = [f'[[judge]]\nllm = "rules"\nflip = 0.2\nflip_seed = {seed}\n' for seed in range(judges)]
        (tmp_path / "judges.toml").write_text("".join(entries))
        command = (
            "spec",
            "evaluate",
            "goals-probability",
            "--half",
            "all",
            "--json",
            "--panel",
            "judges.toml",
        )
        done = run_onibus(*command, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout).values()
        assert found["scale"] is None, "a share of judges is no probability that could be fitted"
        return float(found["balanced_accuracy"])

    three, nine = balanced_accuracy(3), balanced_accuracy(9)
    assert 0.8 < three < nine


@pytest.mark.slow
def test_the_command_asks_a_panel_by_several_workers_and_names_what_it_costs(
    settings: Settings, tmp_path: Path
) -> None:
    environment = environment_of(settings) | {"FIRST_KEY": "secret-one"}
    with servers(says(about_gold), says(lambda _: True)) as running:
        panel = tmp_path / "judges.toml"
        panel.write_text(
            f'[[judge]]\nmodel = "one"\nbase_url = "{running[0].url}"\nkey_env = "FIRST_KEY"\n'
            f'price_in = 1.0\n[[judge]]\nmodel = "two"\nbase_url = "{running[1].url}"\nprice_in = 3.0\n'
        )
        publish(settings, GOLD)
        process = start_onibus(
            *("annotate", "--backlog", "all", "--yes", "--spec", SPEC, "--panel", panel),
            *("--workers", "2", "--name", "w"),
            environment=environment, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            wait_for_labels(settings, len(GOLD))
            publish(settings, WALLS)
            wait_for_labels(settings, len(GOLD + WALLS))
            everything = len(GOLD + WALLS) + 2  # one of the start for each worker
            wait_until(
                lambda: {len(server.requests) for server in running} == {everything}, 30, "every question"
            )
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, log
    assert f"{len(GOLD)} captions: {2 * len(GOLD)} questions" in log
    assert "at most $" in log
    assert "secret" not in log
    assert running[0].keys == {"Bearer secret-one"}
    assert {len(server.requests) for server in running} == {everything}
    status = run_onibus("status", "--json", folder=tmp_path, environment=environment_of(settings))
    costs = json.loads(status.stdout)["costs"]
    assert {(one["model"], one["annotator"]) for one in costs} <= {
        (m, f"w-{k}") for m in ("one", "two") for k in (0, 1)
    }
    by_model = Counter[str]()
    for one in costs:
        by_model[one["model"]] += round(one["usd"] * 1e6)
    assert by_model == {"one": 24 * 11, "two": 24 * 33}
