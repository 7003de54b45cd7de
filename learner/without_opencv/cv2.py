"""Stands in for OpenCV where its system libraries are missing; nothing of it is ever called."""
