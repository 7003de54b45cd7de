"""README and the pages under ``infra/docs``: their links, commands, settings and paths are true."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import onibus
from onibus.infra.observability import metrics
from onibus.infra.reward_kinds import REWARD_KINDS
from onibus.infra.settings import Settings
from onibus.learner.options import make_options
from tests.command_lines import complaint, onibus_command
from tests.run_contents import run_contents

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "infra" / "docs"
PAGES = [README, ROOT / ".github" / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
PACKAGES = ("schemas", "infra", "producers", "consumers", "learner")
README_WORDS = 1_200
LINE_LENGTH = 119

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_MODULE = re.compile(rf"(?:{'|'.join((*PACKAGES, 'tests'))})(?:[/.][\w-]+)*[\w/.]*")
_PROGRAM = re.compile(r"(?:\w+=\S+ +)*(?:\S*/)?onibus +(.*)")


def every_page() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@every_page()
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert not broken


def test_a_broken_anchor_would_be_found() -> None:
    text = "# A `title`, with signs\n\n## Twice\n\n## Twice\n\n```\n# not a heading\n```\n"
    assert anchors(text) == {"a-title-with-signs", "twice", "twice-1"}


@every_page()
def test_every_onibus_command_can_be_typed(page: Path) -> None:
    wrong = {line: problem for line in commands(page.read_text()) if (problem := complaint(words(line)))}
    assert not wrong


def test_a_wrong_command_would_be_found() -> None:
    block = 'set -a; . file; A=1 onibus learn \\\n  --tusk score  # x\nmake demo EXTRA="--wrong 4"'
    text = f"onibus is a name, `onibus anotate` not, `onibus topics list / lose`\n\n```\n{block}\n```\n"
    assert [complaint(words(line)) for line in commands(text)] == [
        "learn has no --tusk",
        "demo has no --wrong",
        "there is no command 'anotate'",
        "",
        "there is no command 'lose'",
    ]


def test_every_command_has_an_entry_in_the_operations_page() -> None:
    shown = [name for name, command in onibus_command().commands.items() if not command.hidden]
    page = (DOCS / "operations.md").read_text()
    assert not [name for name in shown if f"`onibus {name}" not in page]


@every_page()
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for line in code(page.read_text()) for word in re.findall(r"^make ([a-z][\w-]*)", line)]
    assert set(named) <= targets


@every_page()
def test_every_metric_that_is_named_exists(page: Path) -> None:
    table = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    families = [metric.describe()[0] for metric in table]
    exposed = {name for family in families for name in (family.name, f"{family.name}_total")}
    assert set(re.findall(r"`(onibus_\w+)`", page.read_text())) <= exposed


@every_page()
def test_lines_are_short(page: Path) -> None:
    """Except tables, and links that cannot be broken."""
    long = [
        line
        for line in page.read_text().splitlines()
        if len(line) > LINE_LENGTH and not line.startswith("|") and " " in line.strip("-* ")
    ]
    assert not long


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= README_WORDS


def test_the_readme_lists_every_page() -> None:
    linked = set(_LINK.findall(README.read_text()))
    assert {str(page.relative_to(ROOT)) for page in PAGES if page != README} <= linked


@every_page()
def test_every_path_that_is_named_exists(page: Path) -> None:
    """Modules and folders: ``infra/kafka/topics.py``, ``infra/kafka/`` or ``onibus.infra.kafka.topics``."""
    if page.name == "changelog.md":  # it names old places, too
        return
    named = set(paths(page.read_text())) - run_contents()
    assert not [name for name in named if not is_there(name)]


def test_a_path_that_is_gone_would_be_found() -> None:
    text = (
        '`infra/gone.py`, `pytest tests/gone.py`\n```\nA=1 python infra/gone/ --set="tests/gone -k x"\n```\n'
    )
    assert sorted(paths(text)) == ["infra/gone.py", "infra/gone/", "tests/gone", "tests/gone.py"]
    assert is_there("infra/kafka/topics.py")
    assert is_there("onibus.infra.kafka.topics")
    assert not is_there("infra/kafka/gone.py")
    assert not is_there("onibus.infra.kafka.gone")


def test_every_package_is_in_the_architecture_page() -> None:
    page = (DOCS / "architecture.md").read_text()
    packages = [
        f"{file.parent.relative_to(ROOT)}/"
        for package in PACKAGES
        for file in sorted((ROOT / package).glob("*/__init__.py"))
    ]
    assert packages
    assert not [name for name in packages if f"`{name}`" not in page]


def test_the_moved_names_of_the_changelog_exist() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", (DOCS / "changelog.md").read_text(), re.MULTILINE)
    assert rows
    assert not [new for _, new in rows if not is_there(new)]


def test_the_settings_page_is_the_model() -> None:
    page = (DOCS / "settings.md").read_text()
    names = tuple(f"| `{name}`" for name in Settings.model_fields)
    rows = [line for line in page.splitlines() if line.startswith(names)]
    assert rows == list(settings_rows()), "\n".join(["the table should be:", *settings_rows()])


def test_the_defaults_of_a_run_are_those_of_the_options() -> None:
    page = (DOCS / "settings.md").read_text()
    runs = [make_options("keyroom-s5", run="x"), make_options("score", run="x")]
    runs.append(make_options("score", run="x", network="full"))
    shown = [
        ("spec", [f"`{run.specs[0].name}`" for run in runs]),
        ("coefficient of the spec", [str(run.specs[0].coefficient) for run in runs]),
        ("`--extrinsic-coefficient`", [str(run.extrinsic_coefficient) for run in runs]),
        ("`--network`", [f"`{run.network}`" for run in runs]),
        ("`--epochs`", [str(run.epochs) for run in runs]),
        ("`--learning-rate`", [str(run.learning_rate) for run in runs]),
        ("`--discount`", [str(run.discount) for run in runs]),
        ("`--entropy`", [str(run.entropy) for run in runs]),
        (
            "`--extrinsic-clip`",
            ["none" if run.extrinsic_clip is None else str(run.extrinsic_clip) for run in runs],
        ),
        ("`--actions`", [f"`{run.actions}`" if run.actions else "the task's own" for run in runs]),
        ("`--reward`", [f"`{runs[0].reward}`"]),
        ("`--embedding`", [f"`{runs[0].embedding}`"]),
        ("`--count-beta`", [str(runs[0].count_beta)]),
        ("`--extrinsic-scale`", [str(runs[0].extrinsic_scale)]),
        ("`--ppo-clip`, `--value-clip`", [f"{runs[0].ppo_clip}, {runs[0].value_clip}"]),
        ("`--epochs`, `--adam-epsilon`", [f"by task, {runs[0].adam_epsilon}"]),
        ("`--episodes-averaged`", [f"{runs[0].episodes_averaged}"]),
        ("`--workers`, `--environments`", [f"{runs[0].workers}, {runs[0].environments}"]),
        ("`--rollout`, `--batch-size`", [f"{runs[0].rollout}, {runs[0].batch_size}"]),
        ("`--seed`", [str(runs[0].seed)]),
        ("`--device`", [f"`{runs[0].device}`"]),
    ]
    missing = [row for name, values in shown if (row := f"| {' | '.join([name, *values])} |") not in page]
    assert not missing
    sparse = make_options("oracle", run="x").extrinsic_coefficient
    assert f"`--extrinsic-coefficient` is {sparse} for `staircase`, `oracle` and their variants" in page


def test_the_presets_of_the_settings_page_are_those_of_the_code() -> None:
    page = (DOCS / "settings.md").read_text().partition("### Presets")[2]
    rows = re.findall(r"^\| (`--.+?) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    for flags, oni, motif in rows:
        names = [name.replace("-", "_") for name in re.findall(r"`--([\w-]+)`", flags)]
        for preset, shown in (("oni", oni), ("motif", oni if motif == "the same" else motif)):
            run = make_options("score", run="x", preset=preset, motif_model="m")
            values = ["yes" if getattr(run, name) is True else str(getattr(run, name)) for name in names]
            assert re.sub("`|, unless given", "", shown) == ", ".join(values), (preset, flags)
    assert len(rows) >= 10


def test_the_readme_says_which_rewards_need_annotators_and_a_trainer() -> None:
    row = r"^\| `(\w+)` \| .* \| (\S+?),?(?: with .*)? \| (\S+) \| .* \|$"
    rows = re.findall(row, README.read_text(), re.MULTILINE)
    needs = {reward: (annotators == "**yes**", trainer == "**yes**") for reward, annotators, trainer in rows}
    assert needs == {name: (kind.annotators, kind.trainer) for name, kind in REWARD_KINDS.items()}


def test_the_layers_of_the_architecture_page_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {
        contract["containers"][0].removeprefix("onibus."): re.findall(r"\w+", " ".join(contract["layers"]))
        for contract in contracts
        if contract["type"] == "layers"
    }
    rows = re.findall(
        r"^\| `?([\w ]+)`? \| (`\w+`.*→.*) \|$", (DOCS / "architecture.md").read_text(), re.MULTILINE
    )
    assert {name: _CODE.findall(order) for name, order in rows} == layers


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["title"], citation["version"]) == (project["name"], onibus.__version__)
    assert citation["license"] == project["license"]


def settings_rows() -> Iterator[str]:
    """The rows of the settings page: name in onibus.toml, environment variable, flag, default, meaning."""
    command = onibus_command()
    flags = {flag for option in command.commands["topics"].commands["check"].params for flag in option.opts}
    for name, field in Settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        shown = f"`{flag}`" if flag in flags else "–"
        default = "–" if field.default is None else f"`{_toml(field.default)}`"
        yield f"| `{name}` | `ONIBUS_{name.upper()}` | {shown} | {default} | {field.description} |"


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page: lower case, hyphens for spaces, no other signs, numbered."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        twins = sum(
            other == name or re.fullmatch(rf"{re.escape(name)}-\d+", other) is not None for other in found
        )
        found.add(f"{name}-{twins}" if twins else name)
    return found


def code(text: str) -> Iterator[str]:
    """Every line of a code block, continued lines joined, then every piece of code in the prose."""
    for block in _FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()[1:-1]
    yield from _CODE.findall(_FENCE.sub("", text))


def paths(text: str) -> set[str]:
    """Paths and dotted names of ours in code: alone, or as words of a command that have a folder."""
    alone = {name for name in code(text) if _MODULE.fullmatch(name)}
    words_of = {word for line in code(text) for word in re.split(r"[\s\"'=:]+", line)}
    return alone | {word for word in words_of if "/" in word and _MODULE.fullmatch(word)}


def commands(text: str) -> Iterator[str]:
    """The arguments of every ``onibus …`` in code, one line for each of alternatives (``list / show``).

    Variables or a path may stand before it, other commands of a shell around it.
    """
    for line in code(text):
        for extra in re.findall(r'EXTRA="([^"]*)"', line):
            yield f"demo {extra}"
        for part in re.split(r"&&|;|\|", line.partition(" #")[0]):
            if match := _PROGRAM.fullmatch(part.strip()):
                first, *others = match[1].split(" / ")
                yield first
                yield from (f"{first.rpartition(' ')[0]} {other}" for other in others)


def words(line: str) -> list[str]:
    """Arguments as a user would type them, without signs that leave something open (``NAME``, ``…``)."""
    split = shlex.split(line)
    return [w for w in split if re.fullmatch(r"-{1,2}\w[\w=,.:/-]*|[a-z][\w.:/=-]*", w)] or ["--help"]


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_there(name: str) -> bool:
    """Whether a path or a dotted name of ours is a file or a folder of the repository."""
    if "/" not in name and not name.endswith(".py"):
        name = name.removeprefix("onibus.").replace(".", "/")
    path = ROOT / name
    return path.exists() or path.with_suffix(".py").exists()
