"""Side files of a run: what was captioned, judged, scored, and by which versions and specs."""
