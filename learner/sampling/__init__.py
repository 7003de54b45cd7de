"""Sampling where the games are: rollout processes that act with their own copy of the policy."""
