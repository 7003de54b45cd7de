"""Rewards from labels, Sample Factory's learner and runner, encoders, the training entry."""
