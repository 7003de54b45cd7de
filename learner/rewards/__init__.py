"""Intrinsic rewards: the functions, and where labels and model scores come from."""
