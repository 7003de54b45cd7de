"""``make`` takes the newest supported interpreter that really runs, or the one that is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import REPOSITORY


def found(folder: Path, named: str = "") -> subprocess.CompletedProcess[str]:
    """What environments.sh finds with ``folder`` first on the path, and pyenv's versions in it."""
    return subprocess.run(
        ["/bin/sh", "-euc", '. infra/setup/environments.sh; find_python "$1"', "sh", named],
        cwd=REPOSITORY,
        env={"PATH": f"{folder}:/usr/bin:/bin", "PYENV_ROOT": str(folder / "pyenv"), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def shims(tmp_path: Path) -> Path:
    """A folder in which every versioned name is a shim that does not run, as pyenv's are."""
    for name in ("python3.13", "python3.12", "python3.11", "python"):
        shim = tmp_path / name
        shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    return tmp_path


def test_a_shim_that_does_not_run_is_passed_over(shims: Path) -> None:
    assert found(shims).stdout == "python3\n"


def test_pyenvs_versions_are_found_behind_their_shims(shims: Path) -> None:
    interpreter = shims / "pyenv" / "versions" / "3.12.9" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.symlink_to(sys.executable)
    assert found(shims).stdout == f"{interpreter}\n"


def test_the_named_interpreter_is_taken_or_refused(shims: Path) -> None:
    assert found(shims, sys.executable).stdout == f"{sys.executable}\n"
    refused = found(shims, str(shims / "python3.13"))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "is not a Python 3.11, 3.12 or 3.13 that runs" in line


def test_where_there_is_none_one_line_says_what_to_install(shims: Path) -> None:
    (shims / "python3").unlink()
    (shims / "python3").write_text("#!/bin/sh\nexit 127\n")
    os.chmod(shims / "python3", 0o755)
    missing = found(shims)
    assert missing.returncode == 2
    (line,) = missing.stderr.splitlines()
    assert line.startswith("Python 3.11, 3.12 or 3.13 with its venv module is missing; install it")
