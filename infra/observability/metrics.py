"""Every metric's name, kind and meaning: one table, read by the code, the live view and the tests.

The objects are prometheus_client's own. Sample Factory spreads one component over several processes, so
``onibus learn`` and ``onibus rollout`` switch on prometheus_client's multi-process mode (counters in
memory-mapped files): see :mod:`onibus.infra.observability.multiprocess`.
"""

from __future__ import annotations

import os
from functools import partial

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    multiprocess,
    start_http_server,
)

from onibus.infra.errors import OnibusError
from onibus.infra.observability.multiprocess import SHARED_FOLDER

_LATENCY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_latency = partial(Histogram, buckets=_LATENCY_SECONDS)
_newest = partial(Gauge, multiprocess_mode="mostrecent")
"""Of several processes' values the one that was set last."""

# Rollout workers
CAPTIONS_PUBLISHED = Counter("onibus_captions_published", "Captions handed to Kafka, repeats included.")
CAPTIONS_NEW = Counter("onibus_captions_new", "Captions that their process had not seen before.")
CAPTIONS_DROPPED = Counter(
    "onibus_captions_dropped", "Captions not published because the bounded queue was full or delivery failed."
)
EPISODES_PUBLISHED = Counter("onibus_episodes_published", "Finished episodes handed to Kafka.")
EPISODES_DROPPED = Counter(
    "onibus_episodes_dropped", "Finished episodes not published, for the same reasons as captions."
)

# Annotators
CAPTIONS_CONSUMED = Counter("onibus_captions_consumed", "Caption records read by this annotator.")
CAPTIONS_KNOWN = Counter(
    "onibus_captions_known", "Caption records dropped because their label exists or is on its way."
)
LABELS_WRITTEN = Counter("onibus_labels_written", "Labels committed, by verdict.", ["spec", "verdict"])
MODEL_CALLS = Counter(
    "onibus_model_calls", "Requests to the language model, by outcome.", ["spec", "outcome"]
)
MODEL_SECONDS = _latency("onibus_model_seconds", "Seconds from request to answer.", ["spec"])
MODEL_FAILURES = Counter(
    "onibus_model_failures", "Requests without an answer that will be sent again, by reason.", ["reason"]
)
MODEL_CIRCUIT_OPEN = Gauge(
    "onibus_model_circuit_open",
    "Language models that do not answer and are only probed: 1 or 0, more of a panel.",
)
MODEL_CIRCUIT_OPENED = Counter(
    "onibus_model_circuit_opened", "How often requests were suspended because none was answered."
)
COST = Counter("onibus_cost_usd", "Cost of answers in US dollars, if prices were given.", ["spec"])
TOKENS = Counter(
    "onibus_tokens", "Tokens as counted by the server, or estimated if it does not.", ["spec", "direction"]
)
LABEL_LATENCY = _latency(
    "onibus_label_latency_seconds",
    "Seconds from observing a caption to committing its label, of captions observed while annotators ran.",
    ["spec"],
)
WAITING_LABEL_LATENCY = _latency(
    "onibus_waiting_label_latency_seconds",
    "The same of captions that were observed before their annotator was ready.",
    ["spec"],
)
POSITION_BIAS = Gauge(
    "onibus_position_bias",
    "Share of decided comparisons that went to the caption shown first, minus 0.5; 0 for a fair judge.",
)
TRANSACTIONS = Counter("onibus_transactions", "Transactions of this annotator, by outcome.", ["outcome"])
PENDING = Gauge("onibus_pending_captions", "Captions waiting in the pending stack.")
OWED_ON_LOG = Gauge("onibus_owed_on_log_captions", "Captions pushed off the stack, to be read again.")
DEAD_LETTERS = Counter("onibus_dead_letters", "Records given up, by component.", ["component"])

# Reward trainer
REWARD_VERSIONS = Counter("onibus_reward_versions", "Versions of reward models published.", ["model"])
REWARD_GRADIENT_STEPS = Counter(
    "onibus_reward_gradient_steps", "Gradient steps of published versions.", ["model"]
)
REWARD_LOSS = Gauge("onibus_reward_loss", "Mean training loss of the newest version.", ["model"])
REWARD_ACCURACY = Gauge(
    "onibus_reward_held_out_accuracy", "Share of held-out captions judged correctly.", ["model"]
)
REWARD_BALANCED_ACCURACY = Gauge(
    "onibus_reward_held_out_balanced_accuracy",
    "Mean of the shares of helpful and of unhelpful held-out captions judged correctly.",
    ["model"],
)
REWARD_PRECISION = Gauge(
    "onibus_reward_held_out_precision", "Share of held-out captions called helpful that are.", ["model"]
)
REWARD_RECALL = Gauge(
    "onibus_reward_held_out_recall", "Share of helpful held-out captions called so.", ["model"]
)
REWARD_HELD_OUT = Gauge("onibus_reward_held_out_captions", "Held-out captions, or pairs.", ["model"])
REWARD_HELPFUL = Gauge("onibus_reward_held_out_helpful", "Of these, how many are helpful.", ["model"])
REWARD_BRIER = Gauge("onibus_reward_held_out_brier", "Brier score on the held-out captions.", ["model"])
REWARD_LABEL_AGE_SECONDS = Gauge(
    "onibus_reward_label_age_seconds", "Age of the newest label when the version was made.", ["model"]
)

# Learner
MODEL_VERSION = _newest(
    "onibus_model_version", "Version of the reward model that the learner uses; 0 for none yet."
)
MODEL_AGE_SECONDS = _newest("onibus_model_age_seconds", "Age of the learner's reward model.")
MODEL_AGE_LABELS = _newest(
    "onibus_model_age_labels", "Labels known to the learner that its reward model has not seen."
)
UNSCORED = _newest(
    "onibus_unscored",
    "Share of captions, new in their episode, that the reward model should have scored and did not.",
)
LABEL_TO_REWARD = _latency(
    "onibus_label_to_reward_seconds",
    "Seconds from observing a new caption to the learner's first batch that is rewarded for it.",
)
MODELS_REFUSED = Counter("onibus_models_refused", "Versions of reward models that were rejected.", ["reason"])
ENVIRONMENT_STEPS = Gauge(
    "onibus_environment_steps", "Environment steps, those before a resume included.", multiprocess_mode="max"
)
STEPS_PER_SECOND = Gauge(
    "onibus_environment_steps_per_second", "Environment steps per second.", multiprocess_mode="max"
)
EXTRINSIC_RETURN = _newest("onibus_extrinsic_return", "Mean extrinsic return of recent episodes.")
INTRINSIC_RETURN = _newest("onibus_intrinsic_return", "Mean intrinsic return of recent episodes.")
INTRINSIC_REWARD = _newest("onibus_intrinsic_reward", "Mean intrinsic reward per step in the last batch.")
LABEL_COVERAGE = _newest("onibus_label_coverage", "Share of the last batch's captions that have a label.")
LABEL_AGE_SECONDS = _newest("onibus_label_age_seconds", "Age of the newest label the learner has.")
LABELS_KNOWN = _newest("onibus_labels_known", "Labels in the learner's table.")
EPISODE_SCORE = _newest("onibus_episode_score", "Mean in-game score of recent episodes.")
EPISODE_DEPTH = _newest("onibus_episode_depth", "Mean depth reached in recent episodes.")
EPISODE_EXPERIENCE_LEVEL = _newest(
    "onibus_episode_experience_level", "Mean experience level of recent episodes."
)
EPISODE_GOLD = _newest("onibus_episode_gold", "Mean gold at the end of recent episodes.")
EPISODE_TURNS = _newest("onibus_episode_turns", "Mean game turns of recent episodes.")
EPISODE_SUCCESS = _newest(
    "onibus_episode_success_ratio", "Share of recent episodes in which the task's success came."
)
EPISODE_DEATHS = _newest("onibus_episode_death_ratio", "Share of recent episodes that ended in death.")
EPISODE_SCOUT = _newest(
    "onibus_episode_scout", "Mean number of squares seen in recent episodes, over all levels."
)
EPISODE_KILLS = _newest("onibus_episode_kills", "Mean number of kills in recent episodes.")
EPISODE_PROGRESSION = _newest(
    "onibus_episode_progression", "Mean of BALROG's NetHack progression of recent episodes."
)

# Everyone
POSITIONS_LOST = Counter(
    "onibus_positions_lost",
    "Positions that were no longer on the log; reading continues from an earlier one.",
    ["topic"],
)
UNREADABLE = Counter("onibus_unreadable_records", "Records that could not be decoded.", ["topic"])


def registry() -> CollectorRegistry:
    """The registry to expose: that of this process, or the sum over the process tree."""
    if SHARED_FOLDER not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


def expose(port: int | None, host: str = "127.0.0.1") -> None:
    """Serve the metrics over HTTP in a daemon thread; without a port, do nothing.

    Raises:
        OnibusError: the port is in use or may not be opened.
    """
    if port is None:
        return
    try:
        start_http_server(port, addr=host, registry=registry())
    except OSError as error:
        raise OnibusError(
            f"cannot serve metrics on {host}:{port}: {error.strerror}; choose another --metrics-port"
        ) from error
