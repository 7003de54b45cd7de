"""Slim machines lack the system libraries of OpenCV, which Sample Factory imports and NetHack never uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes
real = ctypes.CDLL
def without_libgl(name, *rest, **more):
    if name == "libGL.so.1":
        raise OSError("libGL.so.1: cannot open shared object file")
    return real(name, *rest, **more)
ctypes.CDLL = without_libgl
import learner.sample_factory
import cv2
print(cv2.__file__)
"""


@pytest.mark.slow
@pytest.mark.integration
def test_sample_factory_is_imported_without_opencvs_libraries() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("learner/without_opencv/cv2.py")
