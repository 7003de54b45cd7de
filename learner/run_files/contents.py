"""What lies in a run's folder, ``RUNS_DIR/NAME``; the page of operations has the same table."""

from __future__ import annotations

from collections.abc import Mapping

CONTENTS: Mapping[str, str] = {
    "options.json": "the run's options, which it resumes with",
    "config.json": "Sample Factory's configuration, made of them",
    "checkpoint_p0": "checkpoints of the policy, the newest and the best (`best_…`), and `milestones/`",
    "history.jsonl": "a row per second: steps, returns, rewards, losses",
    "system.jsonl": "after a demo: a row per second of what its live view shows",
    "sessions.jsonl": "a row per start: its options and specs",
    "sessions": "how often the run was started; a resumed run plays other games by it",
    "parts.jsonl": "a row per start: the versions of onibus, NLE, torch and others",
    "git.diff": "in a checkout: what was changed since its commit",
    "learner.lock": "locked while a learner runs",
    "specs.json": "the ids of the specs that reward",
    "caption-notes": "words of captions, from the rollout workers to the learner",
    "captions.json": "for each caption how often it was seen and what it was paid",
    "scores.json": "the scores of captions under the reward model in use",
    "judged.json": "the captions paid most and seen most, with verdicts",
    "judging.json": "who judged, under which prompt, at what cost; by a report",
    "versions.json": "the versions of reward models that the run followed; by a report",
    "tensorboard": "TensorBoard events",
    ".summary": "the same by Sample Factory",
    "logs": "after a demo: a log of each component",
    "report.html": "by `onibus report`, and by a demo at its end",
    "episodes": "pages that play recorded games; by a report",
    "wandb": "Weights & Biases' files, with `--wandb`",
    "wandb-id": "the id of the run there",
    "hf": "by `onibus export hf`",
}
"""Files and folders by their names, with what they hold."""
