"""Reward models that learn online: network, data set, trainer, versions on the bus, and their process."""
