"""get_or_set in one process: of all who miss a key, one computes or waits on the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import Any, NoReturn

import pytest
from twisted.internet.defer import Deferred, gatherResults

from tagcache.client import AsyncClient, Client, DeferredClient, Options
from tagcache.client.fake import FakeClient
from tests.contract.conftest import ReactorThread
from tests.integration.running import RunningServer, eventually

WAIT = 60.0
# More than the connections of a pool.
CALLERS = 12


def never() -> NoReturn:
    raise AssertionError("somebody else computes")


@pytest.fixture
def control(running: RunningServer) -> Iterator[Client]:
    with Client(port=running.port, timeout=WAIT) as client:
        client.flush()
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS) as pool:
        yield pool


def all_wait(client: Any, control: Client) -> bool:
    """Return whether all but one wait for another.

    One may do so on the server: who was the first to ask, if another one was answered first.
    """
    on_server = control.info()["cache"]["waiting_fetches"]
    return on_server <= 1 and client._flights.waiting + on_server == CALLERS - 1


def granted(control: Client) -> int:
    return int(control.info()["cache"]["leases_granted"])


def test_threads(running: RunningServer, control: Client, pool: ThreadPoolExecutor) -> None:
    before = granted(control)
    with Client(port=running.port, timeout=WAIT, pool_size=3) as client:

        def produce() -> list[str]:
            eventually(lambda: all_wait(client, control))
            return ["made"]

        asked = [pool.submit(client.get_or_set, "key", produce) for _ in range(CALLERS)]
        found = [each.result(WAIT) for each in asked]
        assert found == [["made"]] * CALLERS
        # All have the same object, but for one that the server may have answered.
        assert len(set(map(id, found))) <= 2
        assert client._flights.waiting == 0
        assert not client._flights._calls
    assert granted(control) == before + 1


def test_tasks(running: RunningServer, control: Client) -> None:
    before = granted(control)

    async def run() -> list[str]:
        async with AsyncClient(port=running.port, timeout=WAIT, pool_size=3) as client:

            async def produce() -> str:
                while not all_wait(client, control):
                    await asyncio.sleep(0)
                return "made"

            asked = (client.get_or_set("key", produce) for _ in range(CALLERS))
            return list(await asyncio.gather(*asked))

    assert asyncio.run(run()) == ["made"] * CALLERS
    assert granted(control) == before + 1


def test_deferreds(running: RunningServer, control: Client) -> None:
    before = granted(control)
    thread = ReactorThread()
    options = Options(port=running.port, timeout=WAIT, pool_size=3)
    made: Deferred[str] = Deferred()

    def begin() -> Deferred[Any]:
        client = DeferredClient.from_options(thread.reactor, options)

        def poll() -> None:
            if all_wait(client._client, control):
                made.callback("made")
            else:
                thread.reactor.callLater(0.001, poll)

        poll()
        asked = [client.get_or_set("key", lambda: made) for _ in range(CALLERS)]

        def close(found: Any) -> Any:
            return client.close().addCallback(lambda _: found)

        return gatherResults(asked).addBoth(close)

    try:
        assert thread.wait(begin) == ["made"] * CALLERS
    finally:
        thread.stop()
    assert granted(control) == before + 1


def test_one_waits_for_another_process(
    running: RunningServer, control: Client, pool: ThreadPoolExecutor
) -> None:
    with Client(port=running.port, timeout=WAIT) as client:
        asked: list[Future[str]] = []

        def produce() -> str:
            asked.extend(pool.submit(client.get_or_set, "key", never) for _ in range(CALLERS))
            eventually(lambda: client._flights.waiting == CALLERS - 1)
            assert control.info()["cache"]["waiting_fetches"] == 1
            return "made"

        with Client(port=running.port, timeout=WAIT) as other:
            assert other.get_or_set("key", produce) == "made"
        assert [each.result(WAIT) for each in asked] == ["made"] * CALLERS


def begun(pool: ThreadPoolExecutor, client: Any, key: str, value: str) -> tuple[Event, Future[str]]:
    """Let another thread compute a value; return the event that ends it, and the result."""
    runs, go_on = Event(), Event()

    def produce() -> str:
        runs.set()
        assert go_on.wait(WAIT)
        return value

    result = pool.submit(client.get_or_set, key, produce, tags=["t"])
    assert runs.wait(WAIT)
    return go_on, result


def test_the_first_to_ask_is_not_the_first_to_be_answered(pool: ThreadPoolExecutor) -> None:
    """It waits on the server, and then has what the other has computed: its error, here."""

    class Late(FakeClient):
        def _perform(self, request: Any) -> Any:
            if not late and b"TAG.FETCH" in request.payload:
                late.append(request)
                other = pool.submit(self.get_or_set, "key", fail)
                assert isinstance(other.exception(WAIT), KeyError)
            return super()._perform(request)

    late: list[Any] = []

    def fail() -> str:
        raise KeyError("the database is down")

    with closing(Late()) as client:
        with pytest.raises(KeyError):
            client.get_or_set("key", never)
        assert client.get_or_set("key", lambda: "made") == "made"


def test_who_has_waited_on_the_server_goes_on_waiting_here(pool: ThreadPoolExecutor) -> None:
    """The lease is with another caller of this process, who takes longer."""

    class Late(FakeClient):
        def _perform(self, request: Any) -> Any:
            if not begun_ones and b"TAG.FETCH" in request.payload:
                # What the other sends must not come here again.
                begun_ones.append(None)
                begun_ones.append(begun(pool, self, "key", "made"))
            return super()._perform(request)

    begun_ones: list[Any] = []
    with closing(Late()) as client:
        found = pool.submit(client.get_or_set, "key", never)
        eventually(lambda: client._flights.waiting == 1)
        begun_ones[1][0].set()
        assert found.result(WAIT) == "made"


@pytest.mark.parametrize(("invalidated", "gets"), [(False, "old"), (True, "new")])
def test_who_asks_after_an_invalidation_gets_nothing_older(
    pool: ThreadPoolExecutor, invalidated: bool, gets: str
) -> None:
    with closing(FakeClient()) as client:
        go_on, old = begun(pool, client, "key", "old")
        if invalidated:
            client.invalidate_tag("t")
        late = pool.submit(client.get_or_set, "key", lambda: "new", tags=["t"])
        eventually(lambda: client._flights.waiting == 1)
        go_on.set()
        assert old.result(WAIT) == "old"
        assert late.result(WAIT) == client.get("key") == gets


def test_others_get_the_exception(pool: ThreadPoolExecutor) -> None:
    with closing(FakeClient()) as client:

        def fail() -> str:
            eventually(lambda: client._flights.waiting == 1)
            raise KeyError("the database is down")

        asked = [pool.submit(client.get_or_set, "key", fail) for _ in range(2)]
        assert [type(each.exception(WAIT)) for each in asked] == [KeyError] * 2


def test_who_does_not_want_to_wait_computes_for_itself(pool: ThreadPoolExecutor) -> None:
    with closing(FakeClient()) as client:
        go_on, slow = begun(pool, client, "key", "stored")
        for wait in (0, 0.01):
            assert client.get_or_set("key", lambda: "its own", wait=wait) == "its own"
        assert client.get("key") is None
        go_on.set()
        assert slow.result(WAIT) == client.get("key") == "stored"


def test_two_values_that_need_each_other_do_not_wait_for_ever(pool: ThreadPoolExecutor) -> None:
    with closing(FakeClient()) as client:
        both: dict[str, Event] = {"a": Event(), "b": Event()}

        def of(key: str, other: str) -> Callable[[], str]:
            def produce() -> str:
                both[key].set()
                assert both[other].wait(WAIT)
                found: str = client.get_or_set(other, lambda: "its own", wait=0.01)
                return f"{key} with {found}"

            return produce

        asked = [
            pool.submit(client.get_or_set, key, of(key, other))
            for key, other in (("a", "b"), ("b", "a"))
        ]
        found = {each.result(WAIT) for each in asked}
        assert "a with its own" in found or "b with its own" in found
