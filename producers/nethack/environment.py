"""NetHack as a learner sees it: small observations, captions as integers, episodes that can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from onibus.infra.captioner_names import MESSAGE
from onibus.infra.observability import metrics
from onibus.infra.process.shutdown import keep_hang_ups
from onibus.producers.nethack.captioners import game_captioner
from onibus.producers.nethack.characters import DEFAULT_CHARACTER, character_of, parse_characters
from onibus.producers.nethack.dungeons import dungeon_of, parse_dungeons
from onibus.producers.nethack.endings import Ending, EndingReader
from onibus.producers.nethack.episodes import EpisodeRecorder
from onibus.producers.nethack.messages import CaptionTable, MessageListener
from onibus.producers.nethack.observations import Observation, Observer, observation_space
from onibus.producers.nethack.seeding import episode_seeds, random_base_seed, reset_with_seeds
from onibus.producers.nethack.task_names import Actions, default_actions
from onibus.producers.nethack.tasks import is_minihack, make_task
from onibus.producers.nethack.uncopied import leave_uncopied
from onibus.producers.publishing.caption import Caption
from onibus.producers.publishing.caption_publisher import RolloutBus
from onibus.producers.publishing.shared_bus import SharedBus

_NO_CAPTION = (0, 0)


class NetHackEnvironment(gym.Wrapper[Any, Any, Any, Any]):
    """A task of :mod:`onibus.producers.nethack.tasks` with observations for a learner.

    Observations (fresh arrays, never views into the game's buffers; none where :meth:`leave_observing` has
    left them to the caller):

    ========== ======= ======== =====================================================================
    key        dtype   shape    meaning
    ========== ======= ======== =====================================================================
    blstats    float32 (27,)    bottom-line statistics, scaled, clipped to [-5, 5]
    crop       int16   (9, 9)   glyphs around the player; ``MAX_GLYPH`` outside the map
    glyphs     int16   (21, 79) the whole map; not with ``observation="small"``
    message    uint8   (256,)   the last message's bytes; only with ``observation="full"``
    caption    int64   (2,)     lookup id of the caption that the last action brought about and how often
                                this episode had it, from 1; ``[0, 0]`` if there was none; only with
                                ``captions=True``
    ========== ======= ======== =====================================================================

    The caption of the action that ended an episode stands in the terminal observation and again in the
    next reset's, because learners (Sample Factory) throw terminal observations away. A step limit ends an
    episode with ``truncated``; NLE's own calls it terminated. The last step's ``info`` holds
    ``episode_extra_stats``, floats: score, depth (deepest level), experience_level, gold, turns, scout
    (squares of the map seen), died (0 or 1) and, where they are known, success (0 or 1), kills, progression.

    Args:
        task: name of the task.
        observation: which observations to give.
        captions: whether to do any of the caption work, publishing included.
        max_episode_steps: step limit; None keeps the task's own.
        actions: a set of actions; None keeps the task's own.
        character: who plays; several, with commas between them, are dealt out over the environments. None
            keeps the task's own.
        captioner: what puts a step into words, see :mod:`onibus.producers.nethack.captioners`.
        dungeons: seeds of those that are played in, see :mod:`onibus.producers.nethack.dungeons`; None gives
            each episode a dungeon of its own.
        run: name of the run, for published records.
        worker: index of the rollout worker process.
        environment: index of the environment within the worker.
        seed: base seed; episode e of environment m of worker w is the same whenever these four are.
            None takes the first ``reset(seed=…)``'s or, without one, a random seed.
        bus: gives the process's :class:`RolloutBus`, or None to publish nothing; called at the first
            reset, which learners do after they have forked or spawned.

    Raises:
        OnibusError: as :func:`onibus.producers.nethack.tasks.make_task`, or there is no such character or
            captioner. Also from ``step``, where the captioner failed.
    """

    def __init__(
        self,
        *,
        task: str,
        observation: Literal["small", "medium", "full"] = "small",
        captions: bool = True,
        max_episode_steps: int | None = None,
        actions: Actions | None = None,
        character: str | None = None,
        captioner: str = MESSAGE,
        dungeons: str | None = None,
        run: str = "",
        worker: int = 0,
        environment: int = 0,
        seed: int | None = None,
        bus: Callable[[], RolloutBus | None] = lambda: None,
    ) -> None:
        if character is not None:
            character = character_of(parse_characters(character), worker, environment)
        super().__init__(
            make_task(task, max_episode_steps=max_episode_steps, actions=actions, character=character)
        )
        self.task, self.run, self.worker, self.environment = task, run, worker, environment
        self.actions = actions or default_actions(task) or ""
        self.character = "" if is_minihack(task) else character or DEFAULT_CHARACTER
        self.policy_version = -1
        """Version of the policy that acts; set it from outside, -1 where it is not known."""
        self.episode = -1
        """Number of the current episode, from 0; -1 before the first reset."""
        self.caption = _NO_CAPTION
        """The last observation's, as two integers."""

        self._minihack = is_minihack(task)
        self._dungeons = parse_dungeons(dungeons) if dungeons else ()
        self._base_seed = seed
        self._shared_bus = SharedBus(bus)
        self._bus: RolloutBus | None = None
        leave_uncopied(self.env)
        self._ending = EndingReader(self.env, of_nethack=not self._minihack)
        self._explored = self._ending.explored
        self._said = MessageListener(self.env).said if captions else None
        self._captioner = game_captioner(captioner)
        self._game: Any = self.env.unwrapped
        self._carried = _NO_CAPTION
        self._counts: dict[int, int] = {}  # of this episode: bounded by its step limit
        self._kills = 0
        self._recorder: EpisodeRecorder | None = None
        self._step = 0
        self._blstats = b""  # the last step's, raw: the buffer behind them is written over
        self.observation_space = observation_space(observation != "small", observation == "full", captions)
        self._observer: Observer | None = Observer(self.observation_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin the next episode with seeds of its own; see the class for what ``seed`` does."""
        del options
        if self._base_seed is None:
            self._base_seed = random_base_seed() if seed is None else seed
        self._bus = self._shared_bus.join()
        self.episode += 1
        seeds = episode_seeds(self._base_seed, self.worker, self.environment, self.episode)
        if not self._minihack:
            seeds = seeds._replace(level=0, dungeon=dungeon_of(self._dungeons, seeds.level))
        raw, info = reset_with_seeds(self.env, seeds)
        self._step = self._kills = 0
        self._counts = {}
        self._blstats = raw["blstats"].tobytes()
        self._ending.begin(raw, self._blstats)
        self._recorder = None
        if self._bus is not None:
            self._recorder = EpisodeRecorder(seeds, self._blstats, captions=self._said is not None)
        if self._said is not None:
            self._said.clear()  # what the game says by itself at the start is not an outcome
        self.caption, self._carried = self._carried, _NO_CAPTION
        return self._observe(raw), info

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One action; see the class for the observation and the last step's ``info``."""
        outcome = self.env.step(action)
        raw, extrinsic, terminated, truncated, info = outcome
        reward = float(extrinsic)
        blstats = raw["blstats"].tobytes()
        self._step += 1
        if self._recorder is not None:
            self._recorder.record(action, reward, blstats)
        if self._said is not None:
            self.caption = self._caption(self._said, action, outcome)
        if not (terminated or truncated):
            self._blstats = blstats
            if self._observer is None:
                self._explored.note(blstats)
                return {}, reward, False, False, info
            self._explored.look(raw["glyphs"], blstats)
            return self._observer.observe(raw, self.caption), reward, False, False, info
        observation = self._observe(raw)
        ending = self._ending.read(np.frombuffer(self._blstats, np.int64), info["end_status"])
        info["episode_extra_stats"] = ending.statistics()
        if self._said is not None:
            info["episode_extra_stats"]["kills"] = float(self._kills)
        self._finish(ending)
        self._carried = self.caption
        return observation, reward, not ending.cut_off, ending.cut_off, info

    def leave_observing(self, seen: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Leave observations to the caller, who makes those of many games at once; call it within an episode.

        Steps and resets then return empty ones. After each the caller takes :attr:`caption` and what the
        game's own arrays hold, and adds what the map shows to ``seen``, with
        :func:`~onibus.producers.nethack.explored.add_shown`.

        Args:
            seen: (21, 79) bool, squares seen of the level that the player is on; the environment changes them
                with the level.

        Returns:
            the game's own arrays by NLE's names, which hold the last observation from now on.
        """
        self._explored.share(seen)
        self._observer = None
        buffers: dict[str, NDArray[Any]] = self._game.nethack._obs_buffers
        return buffers

    def close(self) -> None:
        """Close the game; the process's last environment also waits for its records to be delivered."""
        self._shared_bus.leave()
        self._bus = None
        super().close()  # type: ignore[no-untyped-call]
        keep_hang_ups()

    def _observe(self, raw: Observation) -> Observation:
        return {} if self._observer is None else self._observer.observe(raw, self.caption)

    def _caption(self, said: list[bytes], action: int, outcome: Any) -> tuple[int, int]:
        """Id and count of what was said since the last step; publishes it where it is new."""
        message = _CAPTIONS.caption(said) if said else None
        said.clear()
        if message is not None:
            self._kills += message.kills
        caption: Caption | None = message
        if self._captioner is not None:
            caption = self._captioner.caption(message, self._blstats, action, outcome, self._game)
        if caption is None:
            return _NO_CAPTION
        lookup = caption.lookup
        count = self._counts[lookup] = self._counts.get(lookup, 0) + 1
        if self._recorder is not None:
            self._recorder.hear(self._step, caption.id)
        if self._bus is not None:
            self._bus.observe(
                caption, self.worker, self.environment, self.episode, self._step, self.policy_version
            )
        return lookup, count

    def _finish(self, ending: Ending) -> None:
        if self._recorder is None or self._bus is None:
            return
        record = self._recorder.finish(
            ending,
            run=self.run,
            worker=self.worker,
            environment=self.environment,
            episode=self.episode,
            task=self.task,
            action_set=self.actions,
            character=self.character,
            kills=None if self._said is None else self._kills,
            max_episode_steps=self.unwrapped._max_episode_steps,  # type: ignore[attr-defined]
            steps=self._step,
            policy_version=self.policy_version,
            captioner=MESSAGE if self._captioner is None else self._captioner.name,
        )
        self._recorder = None
        if record is None:
            metrics.EPISODES_DROPPED.inc()
        else:
            self._bus.episode_finished(record)


_CAPTIONS = CaptionTable()
"""One for the whole process: what a caption's text and ids are depends on its bytes alone."""
