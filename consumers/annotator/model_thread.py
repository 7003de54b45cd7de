"""A thread with an asyncio loop that asks the language model, so that polling Kafka never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent import futures

from onibus.consumers.language_models.base import (
    Answer,
    Attempt,
    LanguageModel,
    ModelRefusedError,
    Progress,
    Question,
)

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_CUT_SHORT_SECONDS = 2.0
_TAKE_BACK_SECONDS = 0.25


class Asking:
    """Puts questions to a model and collects the answers as they come.

    Questions under way are bounded by the caller.

    Attributes:
        missing: how many questions have no answer yet.
        failed: how many questions will get no answer, as the model can answer none any more.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._answers: queue.SimpleQueue[Answer | BaseException | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._raises = True
        self.missing = self.failed = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[asyncio.Task[None], Question] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="asking", daemon=True)

    def start(self, stopping: threading.Event) -> Attempt | None:
        """Check the model, then be ready for questions; not to the end of it, once ``stopping`` is set.

        Returns:
            The answer to the question that was asked for this, if there was one.

        Raises:
            ModelRefusedError: it can answer no question.
        """
        self._thread.start()
        checked = asyncio.run_coroutine_threadsafe(self._model.check(), self._loop)
        while not futures.wait([checked], timeout=_LOOK_SECONDS).done:
            if stopping.is_set():  # a server that takes a minute to load its model, say
                checked.cancel()
                return None
        return checked.result()

    def ask(self, questions: Iterable[Question]) -> None:
        """Put questions; returns at once."""
        asked = list(questions)
        self.missing += len(asked)
        self._loop.call_soon_threadsafe(self._begin, asked)

    def answers(self, timeout: float) -> list[Answer]:
        """The answers that have come, waiting up to ``timeout`` seconds for a first one or :meth:`wake`.

        Raises:
            ModelRefusedError: the model can answer no question any more.
        """
        if self._failure is not None and self._raises:
            raise self._failure
        found: list[Answer] = []
        with contextlib.suppress(queue.Empty):
            wait = timeout
            while True:
                answer = self._answers.get(timeout=wait) if wait > 0 else self._answers.get_nowait()
                if isinstance(answer, BaseException):
                    self.failed += not (isinstance(answer, ModelRefusedError) and answer.answer)
                    self._failure = self._failure or answer  # other answers are good
                elif answer is not None:
                    found.append(answer)
                wait = 0.0
        if self._failure is not None and self._raises and not found:
            raise self._failure
        self.missing -= len(found)
        return found

    def take_back(
        self, may_be: Callable[[Question], bool] = lambda _: True, *, paid: bool = False
    ) -> list[Question]:
        """Take back questions that may be, and that nothing is on its way for; they get no answer.

        Args:
            paid: also those of which something was answered.
        """
        up_to = Progress.PAID if paid else Progress.WAITING
        done = asyncio.run_coroutine_threadsafe(self._take_back(may_be, up_to), self._loop)
        taken_back: list[Question] = []
        with contextlib.suppress(TimeoutError):
            taken_back = done.result(timeout=_CUT_SHORT_SECONDS)
        self.missing -= len(taken_back)
        return taken_back

    def last_answers(self, seconds: float) -> list[Answer]:
        """What comes within some seconds of what was sent, then what is settled without that.

        What turns out not to be answered meanwhile, as its request failed, is not asked again.
        """
        self._raises = False
        found: list[Answer] = []
        self.take_back()
        if (sent := self.missing - self.failed) and seconds:
            _log.info("waiting up to %.3g s for answers to %d questions that were sent", seconds, sent)
        deadline = time.monotonic() + seconds
        while self.missing > self.failed and (left := deadline - time.monotonic()) > 0:
            found += self.answers(min(left, _TAKE_BACK_SECONDS))
            self.take_back()
        ended = asyncio.run_coroutine_threadsafe(self._end_questions(), self._loop)
        with contextlib.suppress(TimeoutError):
            ended.result(timeout=_CUT_SHORT_SECONDS)
        return found + self.answers(0.0)

    def wake(self) -> None:
        """End the waiting in :meth:`answers`; any thread may call this."""
        self._answers.put(None)

    def stop(self) -> None:
        """Drop the questions under way and end the thread."""
        if not self._thread.is_alive():
            return
        done = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with contextlib.suppress(TimeoutError):
            done.result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _begin(self, questions: list[Question]) -> None:
        for question in questions:
            task = self._loop.create_task(self._one(question))
            self._tasks[task] = question
            task.add_done_callback(self._tasks.__delitem__)

    async def _one(self, question: Question) -> None:
        try:
            self._answers.put(await self._model.answer(question))
        except Exception as error:  # raised again where the answers are taken
            if isinstance(error, ModelRefusedError) and error.answer is not None:
                self._answers.put(error.answer)
            self._answers.put(error)

    async def _take_back(self, may_be: Callable[[Question], bool], up_to: Progress) -> list[Question]:
        tasks = {
            task: question
            for task, question in self._tasks.items()
            if may_be(question) and self._model.progress(question) <= up_to
        }
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [question for task, question in tasks.items() if task.cancelled()]

    async def _end(self) -> None:
        await self._end_questions()
        await self._model.close()

    async def _end_questions(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
