"""The options of a learning run: their defaults by task, and how they are kept with the run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from onibus.infra.captioner_names import MESSAGE
from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of, write_whole
from onibus.infra.flags import flag_name, made
from onibus.infra.plugins import checksum_of, import_plugin, is_plugin, version_of
from onibus.infra.reward_kinds import RewardKind, reward_kind
from onibus.learner.option_groups import (
    DEFAULT_REWARD,
    PolicyOptions,
    RewardOptions,
    RunOptions,
    SizeOptions,
    SpecShare,
    parse_spec_share,
)
from onibus.learner.presets import PRESETS
from onibus.producers.environments.tasks import RegisteredTask, import_tasks, registered_task
from onibus.producers.nethack.task_names import default_actions, is_sparse, name_of_version

OPTIONS_FILE = "options.json"


PAIRS = "-pairs"
"""Ends the name of a specification that compares two captions for the goal of another."""

COMPARED_SHARE = 0.6
"""Of the usual coefficient: normalised scores of good captions lie near 1.4 to 1.7, not at 1."""


class LearnOptions(SizeOptions, PolicyOptions, RewardOptions, RunOptions):
    """Options of one run of Sample Factory APPO with intrinsic reward.

    Each field is a flag of ``onibus learn``. A run folder of an older onibus has only the fields of then: the
    default of a field is what such a run did; what new runs begin with is :func:`defaults_for` their task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str = Field(description="Name of the run; its files are in RUNS_DIR/NAME.")

    @model_validator(mode="after")
    def _motif_has_its_model(self) -> LearnOptions:
        if self.reward == "motif" and not self.motif_model:
            raise ValueError("motif needs --motif-model: a file of onibus replay train, or a model's name")
        return self

    @model_validator(mode="after")
    def _only_announced_specs_are_chosen(self) -> LearnOptions:
        if self.kind.is_frozen and any(share.which is not None for share in self.specs):
            raise ValueError(
                f"--reward {self.reward} takes --spec NAME alone: no annotator's spec is followed"
            )
        return self

    @model_validator(mode="after")
    def _one_threshold(self) -> LearnOptions:
        if self.reward_quantile is None:
            return self
        if not self.kind.compares:
            raise ValueError("--reward-quantile is for ranking and motif; give --reward-threshold")
        if self.reward_threshold is not None:
            raise ValueError("--reward-threshold and --reward-quantile exclude each other; give one of them")
        return self

    @model_validator(mode="after")
    def _only_nethack_has_actions_characters_and_captioners(self) -> LearnOptions:
        given_captioner = None if self.captioner == MESSAGE else self.captioner
        given_flags = {
            "--actions": self.actions,
            "--character": self.character,
            "--captioner": given_captioner,
            "--dungeons": self.dungeons,
        }
        for flag, given in given_flags.items():
            if given is not None and self.registered is not None:
                raise ValueError(f"{flag} is for NetHack's tasks; leave it out for {self.task}")
        return self

    @property
    def registered(self) -> RegisteredTask | None:
        """The task, where a module of :attr:`imports` or an entry point registers it; else None.

        Raises:
            OnibusError: a module cannot be imported.
        """
        import_tasks(self.imports)
        return registered_task(self.task)

    def plugins(self) -> dict[str, str]:
        """Versions of the user's own parts, by module.

        Raises:
            OnibusError: one cannot be imported.
        """
        return {module: version_of(module) for module in self.plugin_modules()}

    def plugin_files(self) -> dict[str, str]:
        """Checksums of the files of the user's own parts, by module.

        Raises:
            OnibusError: one cannot be imported.
        """
        return {module: checksum_of(sys.modules[module]) for module in self.plugin_modules()}

    def plugin_modules(self) -> list[str]:
        """Names of the modules of the user's own parts, which it imports.

        Raises:
            OnibusError: one cannot be imported.
        """
        own = self.registered
        found = [*self.imports, *([] if own is None else [own.module])]
        for flag, given in (("--reward", self.reward), ("--captioner", self.captioner)):
            if is_plugin(given):
                found.append(given.partition(":")[0])
                import_plugin(flag, found[-1])
        return list(dict.fromkeys(found))

    @property
    def played(self) -> str:
        """The task that is played: one without actions began when NetHack's tasks were still NLE's own."""
        return name_of_version(self.task, 0) if self.actions is None else self.task

    @property
    def acts_locally(self) -> bool:
        """Whether rollout processes act with their own copy of the policy."""
        if self.inference is None:
            own = self.registered
            takes_any = own is None or (own.encoder is None and own.is_discrete)
            return self.network != "full" and self.device == "cpu" and takes_any
        return self.inference == "local"

    @property
    def kind(self) -> RewardKind:
        """What the reward needs, and what its scores mean."""
        return reward_kind(self.reward)

    @property
    def threshold(self) -> float:
        """Score above which a model rewards: p(helpful), or standard deviations, or a cosine."""
        return self.kind.threshold if self.reward_threshold is None else self.reward_threshold

    @property
    def core(self) -> str:
        """The recurrent layer of the policy: gru, lstm or none."""
        return self.rnn or ("gru" if self.network == "full" else "none")

    @property
    def core_size(self) -> int:
        """Units of the recurrent layer; 0 without one."""
        return 0 if self.core == "none" else self.rnn_size


def defaults_for(task: str, *, for_cpus: bool = True) -> dict[str, Any]:
    """Option defaults by task.

    Full NetHack has the published coefficients of ONI (arXiv 2410.23022): c_int 0.4, c_ext 0.1 for Score and
    10 where the reward is sparse, so that a success, 50 clipped to 10, pays 100. The full network, and a
    policy on a GPU, are also trained as published; on CPUs the policy learns as in the results page's
    experiment. MiniHack's small tasks learn faster with discount 0.99; registered tasks begin with the same,
    and their spec.

    Args:
        task: its name.
        for_cpus: whether a policy of less than full size is trained on CPUs.
    """
    if actions := default_actions(task):
        coefficient = 10.0 if is_sparse(task) else 0.1
        usual = _NETHACK | (_NETHACK_ON_CPUS if for_cpus else _NETHACK_AS_PUBLISHED)
        return usual | {"actions": actions, "extrinsic_coefficient": coefficient}
    own = registered_task(task)
    return {
        "specs": ({"name": "keys-and-doors" if own is None else own.spec, "coefficient": 0.5},),
        "extrinsic_coefficient": 1.0,
        "learning_rate": 5e-4,
        "discount": 0.99,
        "entropy": 0.01,
    }


_NETHACK: dict[str, Any] = {
    "specs": ({"name": "goals", "coefficient": 0.4},),
    "extrinsic_clip": 10.0,
}

_NETHACK_AS_PUBLISHED: dict[str, Any] = {"learning_rate": 1e-4, "discount": 0.99, "entropy": 0.003}

_NETHACK_ON_CPUS: dict[str, Any] = {
    "network": "medium",
    "learning_rate": 5e-4,
    "discount": 0.999,  # what is looked for is hundreds of steps away
    "entropy": 0.01,
    "epochs": 3,
}


def default_specs(task: str, reward: str, preset: str | None = None) -> tuple[SpecShare, ...]:
    """The specification that a task's reward comes from, with its coefficient, or that of a preset.

    Raises:
        OnibusError: there is no such reward.
    """
    shares = tuple(SpecShare(**share) for share in defaults_for(task)["specs"])
    compares = reward_kind(reward).compares
    published = PRESETS.get(preset or "")

    def coefficient(usual: float) -> float:
        if published is not None:
            return published.intrinsic_coefficient
        return round(usual * COMPARED_SHARE, 6) if compares else usual

    return tuple(
        SpecShare(name=f"{s.name}{PAIRS}" if compares else s.name, coefficient=coefficient(s.coefficient))
        for s in shares
    )


def make_options(task: str, **given: Any) -> LearnOptions:
    """Options of a run: what was given (not None) over the task's defaults.

    Args:
        task: what is played.
        given: fields of :class:`LearnOptions`; ``specs`` may be texts as :func:`parse_spec_share` takes them.

    Raises:
        OnibusError: a value is out of range.
    """
    given = _over_preset(given)
    import_tasks(given.get("imports", ()))
    for_cpus = given.get("network") != "full" and given.get("device") != "gpu"
    chosen = {"task": task} | defaults_for(task, for_cpus=for_cpus) | given
    reward = chosen.get("reward", DEFAULT_REWARD)
    usual = default_specs(task, reward, given.get("preset"))
    if reward == "none":
        chosen["specs"] = ()
    else:
        chosen["specs"] = _shares(given["specs"], usual) if "specs" in given else usual
    return made(LearnOptions, chosen)


def _over_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given (not None), over the options of the preset that is named among it."""
    there = {k: v for k, v in given.items() if v is not None}
    preset = PRESETS.get(there.get("preset", ""))
    return there if preset is None else dict(preset.options) | there


def resumed_options(before: LearnOptions, **given: Any) -> LearnOptions:
    """Options of a run that goes on: its own ones, and over them what was given (not None).

    Args:
        before: the options of the run's last session.
        given: as for :func:`make_options`; arguments of Sample Factory are added to those of the run.

    Raises:
        OnibusError: a value is out of range.
    """
    given = _over_preset(given)
    chosen = before.model_dump() | given
    if "sample_factory" in given:
        new = made(LearnOptions, before.model_dump() | {"sample_factory": given["sample_factory"]})
        chosen["sample_factory"] = before.sample_factory | new.sample_factory
    reward = chosen["reward"]
    usual = default_specs(before.task, reward, chosen["preset"])
    if reward == "none":
        chosen["specs"] = ()
    elif "specs" in given:
        chosen["specs"] = _shares(given["specs"], usual)
    elif not before.specs or reward_kind(reward).compares != before.kind.compares:
        chosen["specs"] = usual
    return made(LearnOptions, chosen)


def difference(before: LearnOptions, options: LearnOptions) -> list[str]:
    """The flags whose values differ, each with both values; the run's name is left out."""
    return [
        f"{flag_name(name, field.metadata)} {_shown(now)} (was {_shown(was)})"
        for name, field in LearnOptions.model_fields.items()
        if name != "run" and (was := getattr(before, name)) != (now := getattr(options, name))
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(_shown(part) for part in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items()) or "none"
    return str(value)


def _shares(given: Sequence[str | SpecShare], usual: Sequence[SpecShare]) -> tuple[SpecShare, ...]:
    return tuple(
        share if isinstance(share, SpecShare) else parse_spec_share(share, usual[0].coefficient)
        for share in given
    )


def save_options(options: LearnOptions, folder: Path) -> None:
    """Keep the options beside the run's checkpoints.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / OPTIONS_FILE, options.model_dump_json(indent=2) + "\n")


def load_options(folder: Path) -> LearnOptions:
    """The options a run was started with.

    Raises:
        OnibusError: there is no such run, or its file cannot be read.
    """
    try:
        return LearnOptions.model_validate(json.loads((folder / OPTIONS_FILE).read_text()))
    except FileNotFoundError as error:
        raise OnibusError(
            f"no run in {folder}: {OPTIONS_FILE} is missing; give the folder of a run"
        ) from error
    except (OSError, ValueError) as error:
        raise OnibusError(
            f"{folder / OPTIONS_FILE} cannot be read: {reason_of(error)}; was it edited by hand?"
        ) from error
