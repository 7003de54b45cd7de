"""Rewards from labels, Sample Factory's learner and runner, encoders, the training entry."""

import ctypes
import sys
from pathlib import Path

_OPENCV_NEEDS = ("libGL.so.1", "libgthread-2.0.so.0")
"""System libraries of opencv-python; opencv-python-headless needs neither."""


def _stand_in_for_opencv() -> None:
    """Let Sample Factory be imported where OpenCV cannot be (slim containers).

    It imports ``cv2`` for image wrappers that NetHack has no use for. Child processes inherit ``sys.path``.
    """
    try:
        for library in _OPENCV_NEEDS:
            ctypes.CDLL(library)
    except OSError:
        try:
            import cv2  # noqa: F401  only here, as it takes long: a headless build works without them
        except ImportError:
            sys.path.insert(0, str(Path(__file__).parent / "without_opencv"))


if sys.platform == "linux":
    _stand_in_for_opencv()
