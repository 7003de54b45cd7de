"""What only looks at runs starts without PyTorch, whose import takes a second and a half."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.integration
def test_sweeps_comparisons_and_pages_of_runs_import_no_pytorch() -> None:
    script = """
import sys
import onibus.learner.comparing.page, onibus.learner.sweeping.running, onibus.learner.sweeping.view
import onibus.learner.web, onibus.learner.evaluation.checkpoints
print(sorted({"torch", "sample_factory", "tensorboard"} & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"
