"""Slim machines lack the system libraries of OpenCV, which Sample Factory imports and NetHack never uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_LIBGL = """
import ctypes
real = ctypes.CDLL
def without_libgl(name, *rest, **more):
    if name == "libGL.so.1":
        raise OSError("libGL.so.1: cannot open shared object file")
    return real(name, *rest, **more)
ctypes.CDLL = without_libgl
import sys
sys.path.insert(0, {folder!r})
import {module}
import cv2
print(cv2.__file__)
"""
NEEDS_LIBGL = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"


def opencv_used(folder: Path, module: str, opencv: str) -> str:
    """The file of the ``cv2`` that a process without libGL has after importing ``module``."""
    (folder / "cv2.py").write_text(opencv)
    script = WITHOUT_LIBGL.format(folder=str(folder), module=module)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
def test_sample_factory_is_imported_without_opencvs_libraries(tmp_path: Path) -> None:
    used = opencv_used(tmp_path, "onibus.learner.sample_factory", NEEDS_LIBGL)
    assert used.endswith("learner/without_opencv/cv2.py")


@pytest.mark.integration
def test_an_opencv_that_needs_no_display_is_used(tmp_path: Path) -> None:
    headless = "__version__ = '4.11.0'"
    assert opencv_used(tmp_path, "onibus.learner", headless) == str(tmp_path / "cv2.py")
