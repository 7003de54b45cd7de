"""Side files of a run: its history, what was captioned, judged, scored, and by which versions and specs."""
