"""Keeps what a user cannot act on off the screen; imported by whatever a process of a run begins with."""

from __future__ import annotations

import logging
import warnings

import gymnasium
from sample_factory.utils.utils import log as sample_factory_log

from onibus.learner.child_processes import is_not_reported
from onibus.learner.configuration import is_worth_saying

sample_factory_log.setLevel(logging.WARNING)
sample_factory_log.addFilter(is_not_reported)
sample_factory_log.addFilter(is_worth_saying)
gymnasium.logger.min_level = gymnasium.logger.ERROR  # Sample Factory asks wrappers for attributes of others
warnings.filterwarnings("ignore", category=UserWarning, module=r"sample_factory\.")
