"""The circuit: when it opens, how it probes, when it closes."""

from __future__ import annotations

import asyncio

import pytest

from onibus.consumers.language_models.circuit_breaker import LONGEST_PAUSE_SECONDS, Circuit, pause_seconds


class DownError(Exception):
    pass


class RefusedError(Exception):
    pass


class Server:
    """Answers as told; counts."""

    def __init__(self) -> None:
        self.outcome: Exception | None = DownError()
        self.asked = 0

    async def request(self) -> str:
        self.asked += 1
        await asyncio.sleep(0)
        if self.outcome is not None:
            raise self.outcome
        return "answer"


async def fail(circuit: Circuit, server: Server, times: int) -> None:
    for _ in range(times):
        with pytest.raises((DownError, RefusedError)):
            await circuit.send(server.request)


def test_it_opens_after_failures_in_a_row_and_any_answer_begins_the_row_anew() -> None:
    async def history() -> None:
        server = Server()
        circuit = Circuit("s", (DownError,), opens_after=3)
        await fail(circuit, server, 2)
        server.outcome = RefusedError()  # an answer all the same
        await fail(circuit, server, 1)
        server.outcome = DownError()
        await fail(circuit, server, 2)
        assert not circuit.is_open
        await fail(circuit, server, 1)
        assert circuit.is_open

    asyncio.run(history())


def test_open_it_sends_one_probe_at_a_time_and_an_answer_lets_everyone_through() -> None:
    async def history() -> None:
        server, pauses = Server(), []
        go_on = asyncio.Event()

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await go_on.wait()

        circuit = Circuit("s", (DownError,), opens_after=1, sleep=sleep)
        await fail(circuit, server, 1)
        waiting = [asyncio.create_task(circuit.send(server.request)) for _ in range(20)]
        await asyncio.sleep(0.01)
        assert (server.asked, len(pauses)) == (1, 1), "nothing was asked, one gets ready to probe"
        server.outcome = None
        go_on.set()
        assert await asyncio.gather(*waiting) == ["answer"] * 20
        assert (server.asked, len(pauses), circuit.is_open) == (21, 1, False)

    asyncio.run(history())


def test_a_probe_that_is_given_up_makes_room_for_the_next() -> None:
    async def history() -> None:
        server = Server()
        circuit = Circuit("s", (DownError,), opens_after=1)
        await fail(circuit, server, 1)
        first, second = (asyncio.create_task(circuit.send(server.request)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        server.outcome = None
        assert await second == "answer"

    asyncio.run(history())


def test_pauses_double_with_jitter_up_to_a_limit_or_what_the_server_asks_for() -> None:
    assert 0.125 <= pause_seconds(0) <= 0.25
    assert 1 <= pause_seconds(3) <= 2
    assert LONGEST_PAUSE_SECONDS / 2 <= pause_seconds(1_000) <= LONGEST_PAUSE_SECONDS
    assert pause_seconds(0, at_least=40) == 40
    assert len({pause_seconds(5) for _ in range(20)}) > 1
