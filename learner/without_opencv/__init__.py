"""A module path with a ``cv2`` that does nothing; see :mod:`learner`."""
