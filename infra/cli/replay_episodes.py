"""``onibus replay episode`` and ``onibus replay rewards``: recorded episodes, played again."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.cli.label_printing import progress
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.cli.registered_episodes import Imports, captions_and_counts, other_version, show_steps
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import console, echo
from onibus.infra.reward_kinds import P_HELPFUL_THRESHOLD
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.consumers.replay.episode_rewards import CaptionReward
    from onibus.learner.reporting.run_judge import CaptionJudge
    from onibus.schemas.records import EpisodeFinished

_Spec = Annotated[
    str | None, typer.Option(help="Reward captions by the labels of this spec, as --reward retrieval does.")
]
_Model = Annotated[
    str | None, typer.Option(help="Reward captions by this model instead: a file, or a name on the bus.")
]
_Threshold = Annotated[float, typer.Option(help="p(helpful) above which a caption is rewarded.")]
_Coefficient = Annotated[float, typer.Option(help="Coefficient of the intrinsic reward.")]
_Beta = Annotated[float, typer.Option(help="Exponent of a caption's count in its episode.")]
_AsOf = Annotated[
    str | None, typer.Option(help="Labels as they were at a time, at offsets, or for MODEL@VERSION.")
]


def register(group: typer.Typer) -> None:
    """Add both to the commands of ``onibus replay``."""
    group.command()(with_settings(episode))
    group.command()(with_settings(rewards))


def episode(
    settings: Settings,
    name: Annotated[
        str,
        typer.Argument(
            help="RUN/WORKER/ENVIRONMENT/EPISODE, or the beginning of it; the last match is played."
        ),
    ] = "",
    spec: _Spec = None,
    model: _Model = None,
    threshold: _Threshold = P_HELPFUL_THRESHOLD,
    coefficient: _Coefficient = 1.0,
    beta: _Beta = 3.0,
    as_of: _AsOf = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Steps per second; 0 for as fast as possible. Default: 10, or 0 without a terminal.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write an asciicast file (for asciinema) instead of showing it.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page that plays it instead of showing it.")
    ] = None,
    imports: Imports = None,
) -> None:
    """Replay a recorded episode with captions and rewards beside the map; check that it is the same.

    Without --spec and --model, captions are rewarded as the run does, if its folder is in RUNS_DIR.

    Of a registered task the captions and rewards alone are shown.
    """
    from onibus.infra.cli.playback_view import Asciicast, PlaybackView, Terminal
    from onibus.learner.reporting.recorded_episodes import end_in_words, reached, recorded_episodes
    from onibus.producers.environments.tasks import import_tasks
    from onibus.producers.nethack.playback import frames
    from onibus.schemas.ids import episode_key

    if to is not None and html is not None:
        raise OnibusError("give --to or --html, not both")
    import_tasks(imports or ())
    found = deque(recorded_episodes(settings, name), 1)
    if not found:
        raise OnibusError(f"no recorded episode begins with {name!r}; see: onibus episodes list")
    record = found[-1]
    key = episode_key(record).decode()
    if notice := other_version(record):
        echo(f"{key}: {notice}", err=True)
    if spec or model:
        captions = [text for text, _ in captions_and_counts(record) if text is not None] if model else []
        reward = _reward(settings, spec, model, captions, threshold, coefficient, beta, as_of)
        judge = _as_judge(reward)
    else:
        judge = _judge_of_run(settings, record)
    if record.plugin:
        if html is not None or to is not None:
            raise OnibusError(
                f"{key} is of a registered task, which has no map to draw; leave --html and --to out"
            )
        show_steps(record, key, lambda caption, times: judge(caption, times).reward)
        return
    if html is not None:
        _write_player(html, record, judge)
        return
    if speed is None:
        speed = 10.0 if to or console().is_terminal else 0.0
    view, pause = PlaybackView(f"{key} {record.task}"), 1 / speed if speed else 0.0
    with Asciicast(to, key, pause or 0.02) if to else Terminal(console()) as screen:
        for frame in frames(record):
            view.add(frame, judge(frame.caption, frame.count))
            screen.show(view)
            if to is None:
                time.sleep(pause)
    echo(
        f"{key}: {record.steps:,} steps, the same as recorded; {end_in_words(record)}; return "
        f"{record.extrinsic_return:g}, intrinsic {view.intrinsic:.3f}" + (f"; written to {to}" if to else "")
    )
    echo(reached(record))


def _write_player(path: Path, record: EpisodeFinished, judge: CaptionJudge) -> None:
    from onibus.infra.files import write_or_refuse
    from onibus.learner.reporting.episode_players import player_of

    write_or_refuse(path, player_of(record, judge))
    echo(str(path))


def _judge_of_run(settings: Settings, record: EpisodeFinished) -> CaptionJudge:
    """The reward of the run that played it, if its folder is here."""
    from onibus.infra.run_names import check_run_name
    from onibus.learner.options import OPTIONS_FILE, load_options
    from onibus.learner.reporting.run_judge import RunJudge, not_judged

    try:
        folder = settings.runs_dir / check_run_name(record.run)
        if not (folder / OPTIONS_FILE).exists():
            return not_judged
        return RunJudge(settings, load_options(folder), folder)
    except OnibusError as error:
        echo(f"captions are shown without rewards: {error}", err=True)
        return not_judged


def _as_judge(reward: CaptionReward) -> CaptionJudge:
    from onibus.learner.reporting.run_judge import Judgement

    def judge(caption: str | None, count: int) -> Judgement:
        return Judgement("helpful" if caption in reward.helpful else "", reward(caption, count))

    return judge


def rewards(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Name of a run, or the beginning of an episode's name.")] = "",
    spec: _Spec = None,
    model: _Model = None,
    threshold: _Threshold = P_HELPFUL_THRESHOLD,
    coefficient: _Coefficient = 1.0,
    beta: _Beta = 3.0,
    as_of: _AsOf = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of episodes, the newest ones.")] = 20,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Show what recorded episodes would earn with other labels, model, coefficient or exponent."""
    from onibus.learner.reporting.recorded_episodes import recorded_episodes
    from onibus.producers.environments.tasks import import_tasks
    from onibus.schemas.ids import episode_key

    import_tasks(imports or ())
    records = list(recorded_episodes(settings, name))[-limit:]
    for notice in sorted({notice for record in records if (notice := other_version(record))}):
        echo(notice, err=True)
    steps = []
    with progress("episodes played again", len(records)) as advance:
        for record in records:
            steps.append(list(captions_and_counts(record)))
            advance(1)
    captions = [caption for one in steps for caption, _ in one if caption is not None]
    reward = _reward(settings, spec, model, captions, threshold, coefficient, beta, as_of)
    rows = [
        {
            "episode": episode_key(record).decode(),
            "task": record.task,
            "steps": record.steps,
            "extrinsic_return": record.extrinsic_return,
            "intrinsic_return": reward.total(one),
            "rewarded_steps": sum(reward(caption, count) != 0 for caption, count in one),
        }
        for record, one in zip(records, steps, strict=True)
    ]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        echo(
            f"{row['episode']}  {row['steps']:,} steps  extrinsic {row['extrinsic_return']:g}  "
            f"intrinsic {row['intrinsic_return']:.3f} in {row['rewarded_steps']:,} steps"
        )


def _reward(
    settings: Settings,
    spec: str | None,
    model: str | None,
    captions: list[str],
    threshold: float,
    coefficient: float,
    beta: float,
    as_of: str | None,
) -> CaptionReward:
    from onibus.consumers.replay.episode_rewards import CaptionReward

    helpful = frozenset[str]()
    if spec and model:
        raise OnibusError("give --spec or --model, not both: captions are rewarded by one judge")
    if model:
        from onibus.consumers.replay.episode_rewards import helpful_by_model
        from onibus.consumers.replay.judges import load_model

        helpful = helpful_by_model(load_model(settings, model), captions, threshold)
    elif spec:
        from onibus.consumers.labels.as_of import labels_as_of
        from onibus.consumers.specs.known_specs import KnownSpecs
        from onibus.schemas.records import Verdict

        labels = labels_as_of(settings, as_of, [KnownSpecs.read(settings).newest(spec)])
        helpful = frozenset(label.texts[0] for label in labels if label.verdict is Verdict.HELPFUL)
    return CaptionReward(helpful, coefficient, beta)
