"""What the annotation log gives back: labels as of any time, corrections, exports, models trained again."""
