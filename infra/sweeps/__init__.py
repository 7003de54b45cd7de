"""Sweep files that come with onibus: `onibus sweep goal-steers`."""
