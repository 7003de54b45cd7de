"""Tasks of the user's own, by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import onibus
from onibus.infra.errors import OnibusError
from onibus.producers.environments.tasks import import_tasks, named_by_packages, registered_task
from tests.command import run_onibus, the_one_line
from tests.producers.environments.rooms import Counting

OTHER = "import onibus, gymnasium\nonibus.register_task('counting', gymnasium.Env)\n"
BY_ENTRY_POINT = """\
import gymnasium, onibus
onibus.register_task("cart-pole", lambda: gymnasium.make("CartPole-v1"), captioner=lambda step: "it tips")
"""


def test_names_that_cannot_be_a_tasks() -> None:
    for name in ("Big", "a/b", "", "score"):
        with pytest.raises(OnibusError, match="register_task"):
            onibus.register_task(name, Counting)


def test_two_modules_cannot_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other_counting.py").write_text(OTHER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(OnibusError, match=r"registered by tests.*rooms and by other_counting; rename one"):
        import_tasks(["other_counting"])


def test_a_module_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import onibus\n\n1 / 0\n")
    (tmp_path / "needy.py").write_text("import a_library_that_is_missing\n")
    for module, says in (
        ("broken.py", "give a module's name, not a file's: --import broken"),
        ("nothing_here", "there is no module nothing_here; run this in the folder that holds it"),
        ("broken", "cannot be imported: ZeroDivisionError: division by zero (broken.py, line 3)"),
        ("needy", "cannot be imported: ModuleNotFoundError: No module named 'a_library_that_is_missing'"),
    ):
        for command in ("learn", "rollout"):
            line = the_one_line(run_onibus(command, "--import", module, "--task", "mine", folder=tmp_path))
            assert line.startswith(f"onibus: --import {module}: ")
            assert says in line


def test_a_task_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cart_pole_task.py").write_text(BY_ENTRY_POINT)
    metadata = tmp_path / "cart_pole_task-2.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cart-pole-task\nVersion: 2.5\n")
    (metadata / "entry_points.txt").write_text("[onibus.tasks]\ncart-pole = cart_pole_task\n")
    (metadata / "RECORD").write_text("cart_pole_task.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    named_by_packages.cache_clear()
    assert registered_task("cart-poles") is None
    task = registered_task("cart-pole")
    assert task is not None
    assert task.plugin == "cart_pole_task 2.5"
    assert (task.spec, task.is_discrete) == ("cart-pole", True)
    named_by_packages.cache_clear()


def test_the_registry_needs_no_gymnasium() -> None:
    """A command that shows the flags of a run may be on an annotator's machine."""
    script = (
        "import sys; sys.modules['gymnasium'] = sys.modules['torch'] = sys.modules['nle'] = None; "
        "import onibus.learner.options; import onibus; onibus.register_task('any', object)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
