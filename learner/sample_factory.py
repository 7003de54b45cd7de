"""Sample Factory 2.1.1 and every work-around it needs; nothing else in the project knows its insides.

What is mended here, and why:

* Rewards are edited in ``Learner._prepare_batch``, the one place that sees a whole batch before it is used;
  ``LearnerWorker`` and the runners hard-code their classes, so each is subclassed.
* A checkpoint that cannot be read made a run start again from nothing, without a word (``best_performance``
  is a NumPy scalar that ``torch.load`` refuses; an interrupted save leaves ``checkpoint_temp``, which sorts
  last). Here the scalar is a float, temporary files are passed over, and failing to load is an error.
* SIGTERM saved nothing and left five orphans. Here SIGTERM and SIGINT stop the run as its end would, every
  child ends when its parent is gone, and what has not stopped after a grace period is killed by id.
* A killed worker went unnoticed for ever. Here a dead child stops the run and is named.
* ``train_for_seconds`` is ignored upstream; a timer here keeps it.
* ``with_vtrace`` crashed at the first summary, which reads advantages that V-trace does not set.
* The environment's shapes were asked of a child process; if that failed, the parent waited for ever.
"""

from __future__ import annotations

import glob
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import psutil
import torch
from sample_factory.algo.learning.learner import Learner
from sample_factory.algo.learning.learner_worker import LearnerWorker
from sample_factory.algo.runners import runner as runner_module
from sample_factory.algo.runners.runner import Runner
from sample_factory.algo.runners.runner_parallel import ParallelRunner
from sample_factory.algo.runners.runner_serial import SerialRunner
from sample_factory.algo.utils.context import global_env_registry, global_model_factory
from sample_factory.algo.utils.env_info import EnvInfo, extract_env_info
from sample_factory.algo.utils.make_env import make_env_func_batched
from sample_factory.algo.utils.misc import ExperimentStatus
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import TrainingInfoInterface
from sample_factory.utils.utils import log as sample_factory_log
from signal_slot.signal_slot import Timer

from infra.errors import OnibusError
from infra.process.logs import set_up_logging
from infra.settings import load_settings
from learner.networks import LSTM_SIZE, make_encoder
from learner.options import LearnOptions
from learner.rewards.source import RewardSource
from producers.nethack.environment import NetHackEnvironment
from producers.publishing.caption_publisher import process_bus

log = logging.getLogger(__name__)
# In each process, since children import this module when they start: what a user cannot act on stays away.
sample_factory_log.setLevel(logging.WARNING)
gymnasium.logger.min_level = gymnasium.logger.ERROR  # Sample Factory asks wrappers for attributes of others
warnings.filterwarnings("ignore", category=UserWarning, module=r"sample_factory\.")

STATISTICS_KEY = "onibus"
STATISTICS_SECONDS = 1.0
EPISODES_AVERAGED = 100
"""Episodes behind every mean that is reported."""

STOP_SECONDS = 7.0
"""Grace before what has not stopped is killed: a clean stop must be over within 10 s."""

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class LearnerEnvironment(NetHackEnvironment, TrainingInfoInterface):  # type: ignore[misc]
    """The environment as Sample Factory runs it: it also learns which policy version acts.

    Sample Factory passes that on when an episode ends, at most every five seconds, so the version in a
    caption may be that much behind.
    """

    def set_training_info(self, training_info: dict[str, Any]) -> None:
        """Called by the rollout worker at the end of an episode."""
        self.policy_version = training_info.get("policy_version", self.policy_version)


def make_environment(
    _name: str, cfg: Any, env_config: Any, render_mode: str | None = None
) -> NetHackEnvironment:
    """Sample Factory's factory: one environment in a rollout worker (or to learn the spaces: no config)."""
    del render_mode
    end_with_parent()
    options = LearnOptions.model_validate(cfg.onibus)
    settings = load_settings()
    publishing = options.captions and env_config is not None
    return LearnerEnvironment(
        task=options.task,
        observation=options.network,
        captions=options.captions,
        max_episode_steps=options.max_episode_steps,
        run=options.run,
        worker=env_config.worker_index if env_config else 0,
        environment=env_config.vector_index if env_config else 0,
        seed=cfg.environment_seed,
        bus=(lambda: process_bus(settings, options.run, options.task)) if publishing else (lambda: None),
    )


class RewardingLearner(Learner):  # type: ignore[misc]
    """Sample Factory's learner with our reward in its batches."""

    source: RewardSource | None = None
    _next_statistics = 0.0
    _kept: Mapping[str, Any] = {}  # of the checkpoint that is resumed

    def init(self) -> Any:
        """Load model and labels; runs in the learner's own process."""
        if end_with_parent():
            set_up_logging()
        self._options = LearnOptions.model_validate(self.cfg.onibus)
        model = super().init()
        if self._options.captions:
            self.source = RewardSource(
                load_settings(), self._options, Path(self.cfg.train_dir) / self.cfg.experiment
            )
            self.source.resume_normalisation(self._kept.get("normalisation", {}))
            self.source.start()
        return model

    def _prepare_batch(self, batch: Any) -> Any:
        if self.source is not None:
            with torch.no_grad(), self.timing.add_time("intrinsic_reward"):
                self._add_intrinsic_reward(batch)
        return super()._prepare_batch(batch)

    def _add_intrinsic_reward(self, batch: Any) -> None:
        """Replace extrinsic rewards (E, T) by the mixed ones, in place.

        Observations have T + 1 steps: what action t brought about stands in observation t + 1.
        """
        assert self.source is not None
        caption = batch["obs"]["caption"][:, 1:].cpu().numpy()
        extrinsic = batch["rewards"]
        dones = float(batch["dones"].sum())
        ids, counts = caption[..., 0].copy(), caption[..., 1].copy()  # the batch's memory is used again
        intrinsic = self.source.intrinsic(ids, counts, dones)
        extrinsic.mul_(self._options.extrinsic_coefficient).add_(
            torch.from_numpy(intrinsic).to(extrinsic.device)
        )

    def train(self, batch: Any) -> dict[str, Any] | None:
        """One training iteration; once a second its report carries our statistics too."""
        report: dict[str, Any] | None = super().train(batch)
        now = time.monotonic()
        if report is not None and now >= self._next_statistics:
            self._next_statistics = now + STATISTICS_SECONDS
            statistics = {} if self.source is None else self.source.statistics()
            report[STATISTICS_KEY] = statistics | {"train_step": float(self.train_step)}
        return report

    def _calculate_losses(self, mb: Any, num_invalids: int) -> Any:
        losses = super()._calculate_losses(mb, num_invalids)
        if self.cfg.with_vtrace:
            mb["advantages"] = losses[-1]["adv"]
        return losses

    @staticmethod
    def load_checkpoint(checkpoints: list[str], device: Any) -> Any:
        """The newest whole checkpoint, or None where there is none.

        Raises:
            OnibusError: it cannot be read. Going on from nothing would throw away what was learned.
        """
        whole = [path for path in checkpoints if path.endswith(".pth")]
        if not whole:
            return None
        try:
            return torch.load(whole[-1], map_location=device, weights_only=True)
        except Exception as error:  # torch raises many kinds for a broken file
            raise OnibusError(
                f"checkpoint {whole[-1]} cannot be read ({type(error).__name__}); "
                "delete it to resume from the one before"
            ) from error

    def _load_state(self, checkpoint_dict: dict[str, Any], load_progress: bool = True) -> None:
        """Upstream goes on with the checkpoint's learning rate whatever was asked; here the flag counts."""
        super()._load_state(checkpoint_dict, load_progress)
        self.curr_lr = self.cfg.learning_rate
        self._kept = checkpoint_dict.get("onibus", {})

    def _get_checkpoint_dict(self) -> dict[str, Any]:
        checkpoint: dict[str, Any] = super()._get_checkpoint_dict()
        checkpoint["best_performance"] = float(checkpoint["best_performance"])
        checkpoint["onibus"] = {
            "options": self._options.model_dump_json(),
            "provenance": {} if self.source is None else self.source.provenance(),
            "normalisation": {} if self.source is None else self.source.normalisation(),
        }
        return checkpoint


class RewardingLearnerWorker(LearnerWorker):  # type: ignore[misc]
    """Sample Factory's learner process around :class:`RewardingLearner`."""

    def __init__(
        self, evt_loop: Any, cfg: Any, env_info: EnvInfo, buffer_mgr: Any, batcher: Any, policy_id: int
    ) -> None:
        super().__init__(evt_loop, cfg, env_info, buffer_mgr, batcher, policy_id)
        self.learner = RewardingLearner(
            cfg, env_info, buffer_mgr.policy_versions, policy_id, self.param_server
        )

    def on_stop(self, *args: Any) -> None:
        """Close our threads, then save and stop as upstream does."""
        if self.learner.source is not None:
            self.learner.source.stop()
        super().on_stop(*args)


class _OurClasses:
    """Mixed into both runners: our learner worker, a supervisor, and the policy version for environments."""

    def supervise_every(self: Any, seconds: float, check: Callable[[], None]) -> None:
        """Call ``check`` from the event loop; slots must be methods of an object that lives on it."""
        self._check = check
        timer = Timer(self.event_loop, seconds)
        timer.timeout.connect(self._supervise)
        self.timers.append(timer)

    def _supervise(self: Any) -> None:
        self._check()

    def _make_learner(self: Any, event_loop: Any, policy_id: int, batcher: Any) -> RewardingLearnerWorker:
        return RewardingLearnerWorker(
            event_loop, self.cfg, self.env_info, self.buffer_mgr, batcher, policy_id=policy_id
        )

    def _propagate_training_info(self: Any) -> None:
        if self.buffer_mgr is None:
            return
        versions = self.buffer_mgr.policy_versions
        self.update_training_info.emit(
            {
                policy: {
                    "policy_id": policy,
                    "approx_total_training_steps": self.env_steps.get(policy, 0),
                    "reward_shaping": None,
                    "policy_version": int(versions[policy]),
                }
                for policy in range(self.cfg.num_policies)
            }
        )


class OurParallelRunner(_OurClasses, ParallelRunner):  # type: ignore[misc]
    """A process for each rollout worker, the policy worker and the learner."""

    def _on_everything_stopped(self) -> None:
        """All have saved, flushed and said so; what is left is their interpreters' slow way out (24 workers
        on two cores: 15 s), so they are ended instead of waited for."""
        for process in (*self.processes, *self.sampler.processes):
            process.kill()
        super()._on_everything_stopped()


class OurSerialRunner(_OurClasses, SerialRunner):  # type: ignore[misc]
    """Everything in this process, in turn."""


@dataclass(slots=True)
class RunState:
    """What a run's watcher is told once a second."""

    env_steps: int
    episodes: dict[str, list[float]]
    learner: dict[str, float]


def run_experiment(
    options: LearnOptions,
    runs_dir: Path,
    stopping: threading.Event,
    watch: Callable[[RunState], None],
    session: int,
) -> RunState:
    """Train until the options' end or until ``stopping`` is set; returns the last state.

    Args:
        options: what to learn.
        runs_dir: folder that holds the run's own folder.
        stopping: set by a signal; the run saves a checkpoint and stops.
        watch: called about once a second from the runner's event loop.
        session: how often the run was started before; keeps a resumed run's games new.

    Raises:
        OnibusError: a worker process died, or the run could not start.
    """
    cfg = configuration(options, runs_dir, session)
    global_env_registry()[cfg.env] = make_environment
    global_model_factory().register_encoder_factory(make_encoder)
    runner_module.obtain_env_info_in_a_separate_process = _environment_info
    runner = (OurSerialRunner if options.serial else OurParallelRunner)(cfg)
    supervisor = _Supervisor(runner, options, stopping, watch)
    try:
        if runner.init() != ExperimentStatus.SUCCESS:
            raise OnibusError(
                "Sample Factory refuses this combination of options; see its lines above, change --workers, "
                "--environments, --rollout or --batch-size"
            )
        status = runner.run()
    finally:
        supervisor.close()
    if supervisor.failure:
        raise OnibusError(supervisor.failure)
    if status == ExperimentStatus.FAILURE:
        raise OnibusError(
            "the run failed; the lines above say where; its last checkpoint is kept: use --resume"
        )
    return supervisor.state()


class _Supervisor:
    """Looks at a runner once a second: stop requests, time limits, dead children, statistics."""

    def __init__(
        self,
        runner: Any,
        options: LearnOptions,
        stopping: threading.Event,
        watch: Callable[[RunState], None],
    ) -> None:
        self.failure: str | None = None
        self._runner, self._options, self._stopping, self._watch = runner, options, stopping, watch
        self._started: float | None = None
        self._learner: dict[str, float] = {}
        self._hard_stop: threading.Timer | None = None
        runner.policy_msg_handlers[STATISTICS_KEY] = [self._on_statistics]
        runner.supervise_every(STATISTICS_SECONDS / 2, self._tick)

    def state(self) -> RunState:
        averages = self._runner.policy_avg_stats
        episodes = {key: [float(v) for v in stat[0]] for key, stat in averages.items()}
        return RunState(sum(self._runner.env_steps.values()), episodes, dict(self._learner))

    def close(self) -> None:
        """After the runner's end, however it came: no timer, no child left."""
        if self._hard_stop is not None:
            self._hard_stop.cancel()
        _end_children()

    def _on_statistics(self, _runner: Runner, message: dict[str, Any], _policy: int) -> None:
        if self._started is None:
            self._started = time.monotonic()
        self._learner = message[STATISTICS_KEY]

    def _tick(self) -> None:
        if self._runner.stopped:
            return
        if dead := self._dead_children():
            self.failure = (
                f"{', '.join(dead)} of this run died unexpectedly; its lines above say why; "
                "the last checkpoint is kept: use --resume to go on"
            )
            self._stop(failed=True)
        elif self._stopping.is_set() or self._time_is_up() or self._return_is_reached():
            self._stop(failed=False)
        if self._started is not None:
            self._watch(self.state())

    def _time_is_up(self) -> bool:
        limit = self._options.seconds
        return limit is not None and self._started is not None and time.monotonic() - self._started >= limit

    def _return_is_reached(self) -> bool:
        goal, returns = self._options.until_return, self._runner.policy_avg_stats.get("reward", [()])[0]
        return goal is not None and len(returns) >= EPISODES_AVERAGED and sum(returns) / len(returns) >= goal

    def _dead_children(self) -> list[str]:
        processes = [*getattr(self._runner, "processes", []), *getattr(self._runner.sampler, "processes", [])]
        return [p.name for p in processes if p.ident is not None and not p.is_alive()]

    def _stop(self, failed: bool) -> None:
        self._hard_stop = threading.Timer(STOP_SECONDS, self._give_up)
        self._hard_stop.daemon = True
        self._hard_stop.start()
        self._runner._stop_training(failed=failed)

    def _give_up(self) -> None:
        if self.failure is None:
            self.failure = f"the run did not stop within {STOP_SECONDS:.0f} s; its processes were killed"
        _end_children()
        self._runner.event_loop.stop()


def configuration(options: LearnOptions, runs_dir: Path, session: int) -> Any:
    """Sample Factory's configuration for our options, straight from its own parser's defaults."""
    argv = ["--algo=APPO", f"--env={options.task}", f"--experiment={options.run}", f"--train_dir={runs_dir}"]
    parser, _ = parse_sf_args(argv)
    parser.set_defaults(
        restart_behavior="resume",
        device=options.device,
        seed=options.seed,
        serial_mode=options.serial,
        async_rl=not options.serial,
        num_workers=1 if options.serial else options.workers,
        num_envs_per_worker=options.environments * (options.workers if options.serial else 1),
        worker_num_splits=2 if options.environments % 2 == 0 and not options.serial else 1,
        batch_size=options.batch_size,
        rollout=options.rollout,
        num_epochs=options.epochs,
        num_batches_per_epoch=1,
        learning_rate=options.learning_rate,
        gamma=options.discount,
        exploration_loss_coeff=options.entropy,
        max_grad_norm=options.gradient_norm,
        with_vtrace=options.vtrace,
        normalize_returns=not options.vtrace,
        normalize_input=False,
        reward_scale=1.0,
        reward_clip=1e9,
        use_rnn=options.recurrent,
        rnn_size=LSTM_SIZE,
        nonlinearity="relu",
        set_workers_cpu_affinity=False,
        use_env_info_cache=False,
        log_to_file=False,
        save_every_sec=options.checkpoint_seconds,
        experiment_summaries_interval=10,
        flush_summaries_interval=10,
        stats_avg=EPISODES_AVERAGED,
        train_for_env_steps=options.steps or int(1e18),
    )
    cfg = parse_full_cfg(parser, argv)
    cfg.network = options.network
    cfg.onibus = options.model_dump(mode="json")
    cfg.environment_seed = options.seed + session * 1_000_003
    return cfg


def _environment_info(cfg: Any) -> EnvInfo:
    """Shapes of observations and actions, asked of an environment in this process."""
    environment = make_env_func_batched(cfg, env_config=None)
    try:
        return extract_env_info(environment, cfg)
    finally:
        environment.close()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of the run in ``folder``."""
    found = sorted(glob.glob(str(folder / "checkpoint_p0" / "checkpoint_*.pth")))
    return Path(found[-1]) if found else None


_watching_parent = False


def end_with_parent() -> bool:
    """In a child process: end when the parent is gone, so that kill -9 of a run leaves no orphan.

    Returns:
        Whether this is a child process.
    """
    global _watching_parent
    parent = multiprocessing.parent_process()
    if parent is None or _watching_parent:
        return parent is not None
    _watching_parent = True

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()
    return True


def _end_children() -> None:
    """Kill, by id, what is left of this process's children."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        if "resource_tracker" in " ".join(_command_line(child)):
            continue  # ends by itself when this process does, after it has freed shared memory
        try:
            child.send_signal(_KILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(children, timeout=1.0)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
