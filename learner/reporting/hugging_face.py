"""A run as a folder in the layout of a model on the Hugging Face hub, which onibus reads again.

The card follows huggingface.co/docs/hub/model-cards: YAML between two lines of dashes, then Markdown.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from onibus.consumers.labels.annotation_log_reader import AnnotationReader, of_specs
from onibus.consumers.labels.export import DataCard, export_annotations
from onibus.consumers.specs.spec_file import read_specs
from onibus.infra.errors import OnibusError
from onibus.infra.files import UnwritableFileError, make_folder, reason_of, write_or_refuse
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.checkpoints import EXPORTED_FILE, options_in, read_checkpoint, weights_metadata
from onibus.learner.options import LearnOptions, load_options, save_options
from onibus.learner.reporting.headline import headline
from onibus.learner.reporting.pages import rendered
from onibus.learner.run_files.history import read_history
from onibus.learner.run_files.judging import SpecJudging, kept_judging, read_judging
from onibus.learner.run_files.parts import parts_now, parts_of
from onibus.learner.run_files.specs import found_specs
from onibus.learner.run_files.versions import kept_versions

log = logging.getLogger(__name__)

CARD_FILE, LABELS_FILE, JUDGING_FILE, CONFIG_FILE = "README.md", "labels.jsonl", "judging.json", "config.json"
RESULTS_FILE = "results.json"


def export_run(
    settings: Settings, folder: Path, checkpoint: Path, out: Path, evaluation: Mapping[str, Any] | None = None
) -> list[str]:
    """Write a run's policy with all that is known about it; names of the files.

    Labels and judges are read from the bus; where that is away, it is logged, and judges are those that the
    last report kept.

    Args:
        folder: of the run.
        checkpoint: one of its checkpoints.
        out: the folder to write, made if need be; files of an earlier export are replaced.
        evaluation: figures of ``onibus evaluate --json``, for the card.

    Raises:
        OnibusError: the checkpoint cannot be read, or a file cannot be written.
    """
    content = read_checkpoint(checkpoint, advice="give another with --checkpoints")
    options = options_in(content) or load_options(folder)
    make_folder(out, "give another --to")
    weights = {name: tensor.clone().contiguous() for name, tensor in content["model"].items()}
    write_or_refuse(out / EXPORTED_FILE, save(weights, weights_metadata(content, options)))
    try:
        save_options(options, out)
    except OSError as error:
        raise UnwritableFileError(f"cannot write {out}: {reason_of(error)}; give another --to") from error
    parts = (parts_of(folder) or [parts_now()])[-1]
    config = {
        "library_name": "onibus",
        "task": options.task,
        "network": options.network,
        "train_step": int(content["train_step"]),
        "env_steps": int(content["env_steps"]),
        "parts": {name: value for name, value in parts.items() if name != "started_at"},
    }
    write_or_refuse(out / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
    judging, labels = _from_the_bus(settings, folder, out)
    write_or_refuse(out / JUDGING_FILE, json.dumps([asdict(one) for one in judging], indent=1))
    history = read_history(folder)
    results = {"training": history[-1] if history else None, "evaluation": evaluation}
    write_or_refuse(out / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    card = rendered(
        "model_card.md.j2",
        options=options,
        config=config,
        head=_head(options, history, evaluation),
        results=_results(options, history, folder, judging, evaluation),
        judging=judging,
        labels=labels,
        labels_file=LABELS_FILE,
        settings=options.model_dump(mode="json") | {"specs": ", ".join(map(str, options.specs))},
        run_folder=out.name,
    )
    write_or_refuse(out / CARD_FILE, card)
    return sorted(path.name for path in out.iterdir() if path.is_file() and not path.name.startswith("."))


def _from_the_bus(
    settings: Settings, folder: Path, out: Path
) -> tuple[Sequence[SpecJudging], DataCard | None]:
    """Who judged, and the card of the file of labels, which is written; None where there are none."""
    try:
        judging = read_judging(settings, folder)
        specs = {i: spec for i, spec in read_specs(settings).items() if i in found_specs(folder).values()}
        if not specs:
            return judging, None
        with AnnotationReader(settings, of_specs(specs.keys())) as reader:
            until = reader.ends
            topic = TopicNames(settings.topic_prefix).annotations
            return judging, export_annotations(out / LABELS_FILE, reader.read(until), specs, topic, until)
    except UnwritableFileError:
        raise
    except OnibusError as error:
        log.warning("the annotation log cannot be read (%s); exported without labels", error)
        return kept_judging(folder), None


def _head(
    options: LearnOptions, history: Sequence[Mapping[str, float]], evaluation: Mapping[str, Any] | None
) -> list[str]:
    """Lines of the card's YAML; values are JSON, which YAML takes."""
    value = None
    if evaluation is not None:
        value = _shown(evaluation["figures"]["return"]["mean"])
    elif history and "return" in history[-1]:
        value = f"{history[-1]['return']:.3f}"
    lines: dict[str, Any] = {"library_name": "onibus", "pipeline_tag": "reinforcement-learning"}
    lines |= {"tags": ["reinforcement-learning", "nethack", "sample-factory", "onibus", options.task]}
    if value is not None:
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": options.task, "type": options.task},
            "metrics": [{"type": "mean_reward", "name": "mean_reward", "value": value, "verified": False}],
        }
        lines |= {"model-index": [{"name": options.run, "results": [result]}]}
    return [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in lines.items()]


def _results(
    options: LearnOptions,
    history: Sequence[Mapping[str, float]],
    folder: Path,
    judging: Sequence[SpecJudging],
    evaluation: Mapping[str, Any] | None,
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titles with names and values: of games that training never played, and of training."""
    found = []
    if evaluation is not None:
        count = evaluation["games"]["episodes"]
        means = evaluation["figures"].items()
        figures = [(name.replace("_", " "), _shown(figure["mean"])) for name, figure in means]
        found.append((f"{count:,} games that training never played, mean [95 %]", figures))
    if history:
        title = f"Training, means of the last {options.episodes_averaged} episodes"
        found.append((title, headline(history, kept_versions(folder), judging)))
    return found


def _shown(mean: Mapping[str, float | None]) -> str:
    """A mean with its interval, where it has one."""
    interval = "" if mean["low"] is None else f" [{mean['low']:.3f}, {mean['high']:.3f}]"
    return f"{mean['value']:.3f}{interval}"
