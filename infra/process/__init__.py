"""Processes: supervision of children, clean stops, logging."""
