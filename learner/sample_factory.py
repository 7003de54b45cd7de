"""Sample Factory 2.1.1 and every work-around it needs; nothing else in the project knows its insides.

What is worked around here, and why:

* Rewards are edited in ``Learner._prepare_batch``, the one place that sees a whole batch before it is used;
  ``LearnerWorker`` and the runners hard-code their classes, so ours are put in their places.
* A checkpoint that cannot be read made a run start again from nothing, without a word (``best_performance``
  is a NumPy scalar that ``torch.load`` refuses; an interrupted save leaves ``checkpoint_temp``, which sorts
  last). Here the scalar is a float, temporary files are passed over, and failing to load is an error.
* SIGTERM saved nothing and left five orphans. Here SIGTERM and SIGINT stop the run as its end would, every
  child ends when its parent is gone, and what has not stopped after a grace period is killed by id.
* A killed worker went unnoticed, and one that raised stayed alive: see :mod:`onibus.learner.child_processes`.
* On a full disk the writers of summaries died, and the main process waited for them: see
  :mod:`onibus.learner.scalar_log`. Checkpoints that cannot be written ended the run.
* ``train_for_seconds`` is ignored upstream; a timer here keeps it.
* ``with_vtrace`` crashed at the first summary, which reads advantages that V-trace does not set, and its
  targets began at a guess: see :mod:`onibus.learner.vtrace`.
* The environment's shapes were asked of a child process; if that failed, the parent waited forever.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sample_factory.algo.learning import learner_worker
from sample_factory.algo.learning.learner import Learner
from sample_factory.algo.learning.learner_worker import LearnerWorker
from sample_factory.algo.runners import runner as runner_module
from sample_factory.algo.runners import runner_parallel
from sample_factory.algo.runners.runner_parallel import ParallelRunner
from sample_factory.algo.runners.runner_serial import SerialRunner
from sample_factory.algo.sampling import sampler
from sample_factory.algo.utils.context import global_env_registry, global_model_factory
from sample_factory.algo.utils.env_info import EnvInfo, extract_env_info
from sample_factory.algo.utils.make_env import make_env_func_batched
from sample_factory.algo.utils.misc import TRAIN_STATS, ExperimentStatus
from sample_factory.algo.utils.multiprocessing_utils import get_mp_ctx
from sample_factory.algo.utils.tensor_dict import TensorDict
from signal_slot.signal_slot import Timer

import onibus.learner.quiet_libraries  # noqa: F401  the learner's process begins with this module
from onibus.infra.errors import OnibusError
from onibus.infra.files import SideFile
from onibus.infra.optimizers import keep_compiler_out
from onibus.infra.process.child_start import no_program_inherits_streams
from onibus.infra.process.fork_server import fork_the_fork_server
from onibus.infra.process.logs import set_up_logging
from onibus.infra.settings import load_settings
from onibus.learner.checkpoints import MILESTONES, newest_checkpoint, read_checkpoint, write_checkpoint
from onibus.learner.child_processes import (
    BATCHER,
    WatchedProcess,
    explain,
    is_expected,
)
from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import LearnOptions
from onibus.learner.process_profile import profile_if_asked
from onibus.learner.rewards.formulas import weigh_extrinsic
from onibus.learner.rewards.source import RewardSource
from onibus.learner.run_environment import make_environment
from onibus.learner.run_supervisor import STATISTICS_KEY, STATISTICS_SECONDS, RunState, RunSupervisor
from onibus.learner.sampling.rollouts import POLICY
from onibus.learner.sampling.worker import LocalParallelSampler, LocalSerialSampler
from onibus.learner.scalar_log import ScalarLog
from onibus.learner.vtrace import bootstrap_from

log = logging.getLogger(__name__)


_LOSSES = {
    "policy_loss": "policy_loss",
    "value_loss": "value_loss",
    "entropy": "entropy",
    "kl_divergence": "kl_divergence",
    "grad_norm": "gradient_norm",
}
"""Sample Factory's names of figures of a training iteration, and ours."""


class RewardingLearner(Learner):  # type: ignore[misc]
    """Sample Factory's learner with our reward in its batches."""

    source: RewardSource | None = None
    _next_statistics = 0.0
    _losses: dict[str, float] | None = None

    def init(self) -> Any:
        """Load model and labels; runs in the learner's own process."""
        if multiprocessing.parent_process() is not None:
            set_up_logging()
        self.checkpoints = SideFile("checkpoints")
        self._options = LearnOptions.model_validate(self.cfg.onibus)
        keep_compiler_out()
        with no_program_inherits_streams():
            model = super().init()
        if self._options.captions:
            self.source = RewardSource(
                load_settings(), self._options, Path(self.cfg.train_dir) / self.cfg.experiment
            )
            self.source.start()
        return model

    def _prepare_batch(self, batch: Any) -> Any:
        with torch.no_grad(), self.timing.add_time("intrinsic_reward"):
            options = self._options
            clip, scale = options.extrinsic_clip, options.extrinsic_scale
            weigh_extrinsic(batch["rewards"], options.extrinsic_coefficient, scale=scale, clip=clip)
            if self.source is not None:
                self._add_intrinsic_reward(batch)
        # The policy does not see captions: from here on they need no more work.
        seen = TensorDict({name: rows for name, rows in batch["obs"].items() if name != "caption"})
        prepared = super()._prepare_batch(TensorDict({**batch, "obs": seen}))
        if self.cfg.with_vtrace:
            bootstrap_from(prepared[0], batch["values"][:, -1], self.cfg.rollout, self.cfg.gamma)
        return prepared

    def _add_intrinsic_reward(self, batch: Any) -> None:
        """Add intrinsic rewards to the extrinsic ones (E, T), in place.

        Observations have T + 1 steps: what action t brought about stands in observation t + 1.
        """
        assert self.source is not None
        caption = batch["obs"]["caption"][:, 1:].cpu().numpy()
        extrinsic = batch["rewards"]
        dones = float(batch["dones"].sum())
        ids, counts = np.moveaxis(caption, -1, 0).copy()  # the batch's memory is used again
        intrinsic = self.source.intrinsic(ids, counts, dones)
        extrinsic.add_(torch.from_numpy(intrinsic).to(extrinsic.device))

    def train(self, batch: Any) -> dict[str, Any] | None:
        """One training iteration; once a second its report carries our statistics too."""
        report: dict[str, Any] | None = super().train(batch)
        now = time.monotonic()
        if report is not None and TRAIN_STATS in report:  # now and then: every 2 s at first, later 2 min
            told = report[TRAIN_STATS]
            self._losses = {ours: float(told[theirs]) for theirs, ours in _LOSSES.items() if theirs in told}
        if report is not None and now >= self._next_statistics:
            self._next_statistics = now + STATISTICS_SECONDS
            statistics = {} if self.source is None else self.source.statistics()
            report[STATISTICS_KEY] = (
                statistics | (self._losses or {}) | {"train_step": float(self.train_step)}
            )
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
        return read_checkpoint(Path(whole[-1]), device) if whole else None

    def _save_impl(
        self, name_prefix: str, name_suffix: str, keep_checkpoints: int, verbose: bool = True
    ) -> bool:
        """Upstream's, but whole or not at all, and learning goes on when it fails."""
        del verbose
        if not self.is_initialized:
            return False
        folder = Path(self.cfg.train_dir) / self.cfg.experiment / f"checkpoint_p{self.policy_id}"
        name = f"{name_prefix}_{self.train_step:09d}_{self.env_steps}{name_suffix}.pth"
        if (folder / name).exists():
            return True  # a whole one; nothing was learned since
        content = self._get_checkpoint_dict()
        if not self.checkpoints.attempt(lambda: write_checkpoint(folder / name, content)):
            return False
        for old in sorted(folder.glob(f"{name_prefix}_*"))[:-keep_checkpoints]:
            self.checkpoints.attempt(old.unlink)
        return True

    def save_milestone(self) -> None:
        """Upstream's, but whole or not at all, and learning goes on when it fails."""
        if not self.is_initialized:
            return
        folder = Path(self.cfg.train_dir) / self.cfg.experiment / f"checkpoint_p{self.policy_id}" / MILESTONES
        path = folder / f"checkpoint_{self.train_step:09d}_{self.env_steps}.pth"
        content = self._get_checkpoint_dict()
        self.checkpoints.attempt(lambda: write_checkpoint(path, content))

    def _load_state(self, checkpoint_dict: dict[str, Any], load_progress: bool = True) -> None:
        """Upstream goes on with the checkpoint's learning rate whatever was asked; here the flag counts."""
        super()._load_state(checkpoint_dict, load_progress)
        if self.cfg.lr_schedule == "constant":
            self.curr_lr = self.cfg.learning_rate

    def _get_checkpoint_dict(self) -> dict[str, Any]:
        checkpoint: dict[str, Any] = super()._get_checkpoint_dict()
        checkpoint["best_performance"] = float(checkpoint["best_performance"])
        checkpoint["onibus"] = {
            "options": self._options.model_dump_json(),
            "provenance": {} if self.source is None else self.source.provenance(),
            "plugins": self._options.plugins(),
            "plugin_files": self._options.plugin_files(),
        }
        return checkpoint


class RewardingLearnerWorker(LearnerWorker):  # type: ignore[misc]
    """Sample Factory's learner process around :class:`RewardingLearner`."""

    def start_batcher_thread(self) -> None:
        """Upstream's, but what the thread raises ends this process."""
        process = self.event_loop.process
        self.batcher.event_loop.process = process
        work = ("the batcher in " + process.name, self.batcher.event_loop.exec)
        self.batcher_thread = threading.Thread(target=process.guarded, args=work, daemon=True, name=BATCHER)
        self.batcher_thread.start()

    def on_stop(self, *args: Any) -> None:
        """Save, close our threads, then stop as upstream does."""
        process, learner = self.event_loop.process, self.learner
        failure = None if learner.save() else "what was learned last could not be written as a checkpoint"
        if failure and learner.checkpoints.failure:
            failure += f" ({learner.checkpoints.failure})"
        if failure and process is not None:
            process.report(failure)
        if learner.source is not None:
            learner.source.stop()
        super().on_stop(*args)
        if failure and process is None:
            raise OnibusError(failure)


class _OurClasses:
    """Mixed into both runners: our samplers, a supervisor, and the policy version for environments."""

    def supervise_every(self: Any, seconds: float, check: Callable[[], None]) -> None:
        """Call ``check`` from the event loop; slots are attributes of an object that lives on it."""
        self._check = check
        timer = Timer(self.event_loop, seconds)  # not among self.timers, which end when a stop begins
        timer.timeout.connect(self, "_check")

    def run(self: Any) -> Any:
        """Upstream's, but an exception is the caller's."""
        self.event_loop.exec()
        return self.status

    def _make_sampler(self: Any, sampler_cls: type, event_loop: Any) -> Any:
        if LearnOptions.model_validate(self.cfg.onibus).acts_locally:
            sampler_cls = LocalSerialSampler if self.cfg.serial_mode else LocalParallelSampler
        return super()._make_sampler(sampler_cls, event_loop)  # type: ignore[misc]

    def _propagate_training_info(self: Any) -> None:
        """Upstream tells environments of steps and reward shaping, which ours have no use for."""
        if self.buffer_mgr is None:
            return
        self.update_training_info.emit(
            {POLICY: {"policy_version": int(self.buffer_mgr.policy_versions[POLICY])}}
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


def prepare_processes(options: LearnOptions) -> None:
    """Decide how the run's processes begin: as forks of a fork of this one; spawned where CUDA is used.

    An import takes two seconds of processor time and 300 MB, which forked processes share. What CUDA has
    begun in a process cannot go on in a fork of it. Call it before this process has threads or connections.
    """
    method = "spawn" if options.device == "gpu" else "forkserver"
    get_mp_ctx.mp_ctx = multiprocessing.get_context(method)
    if method == "forkserver" and not options.serial:
        fork_the_fork_server()


def run_experiment(
    options: LearnOptions,
    runs_dir: Path,
    stopping: threading.Event,
    watch: Callable[[RunState], None],
    session: int,
) -> RunState:
    """Train until the options' end or until ``stopping`` is set; returns the last state.

    :func:`prepare_processes` comes first.

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
    runner_module.SummaryWriter = ScalarLog
    runner_module.LearnerWorker, learner_worker.Learner = RewardingLearnerWorker, RewardingLearner
    runner_parallel.EventLoopProcess = sampler.EventLoopProcess = WatchedProcess
    try:
        return _run(cfg, options, stopping, watch)
    except OnibusError:
        raise
    except Exception as error:
        if not is_expected(error):
            log.exception("the main process failed")
        left = _what_is_left(runs_dir / options.run)
        raise OnibusError(f"the run's main process failed: {explain(error)}; {left}") from error


def _run(
    cfg: Any, options: LearnOptions, stopping: threading.Event, watch: Callable[[RunState], None]
) -> RunState:
    runner = (OurSerialRunner if options.serial else OurParallelRunner)(cfg)
    supervisor = RunSupervisor(runner, options, stopping, watch)
    try:
        if runner.init() != ExperimentStatus.SUCCESS:
            raise OnibusError(
                "Sample Factory refuses this combination of options; see its lines above, change --workers, "
                "--environments, --rollout or --batch-size"
            )
        profile_if_asked("main")
        status = runner.run()
    finally:
        supervisor.close()
    left = _what_is_left(Path(cfg.train_dir) / options.run)
    if supervisor.failure:
        raise OnibusError(f"{supervisor.failure}; {left}")
    if status == ExperimentStatus.FAILURE:
        raise OnibusError(f"the run failed; the lines above say where; {left}")
    return supervisor.state()


def _what_is_left(folder: Path) -> str:
    if (saved := newest_checkpoint(folder)) is None:
        return "there is no checkpoint of it yet"
    return f"its checkpoint {saved.name} is kept: use --resume to go on"


def _environment_info(cfg: Any) -> EnvInfo:
    """Shapes of observations and actions, asked of an environment in this process."""
    with closing(make_env_func_batched(cfg, env_config=None)) as environment:
        return extract_env_info(environment, cfg)
