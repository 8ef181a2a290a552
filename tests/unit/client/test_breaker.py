"""The circuit breaker, with a fake clock and fixed random numbers."""

from __future__ import annotations

import pytest

from tagcache.client import Options, State
from tagcache.client.breaker import Breaker, breaker_for
from tagcache.errors import CircuitOpen, ConnectionFailed, PoolExhausted, TimedOut


class World:
    """The time, and the value of all random numbers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.random = 0.0

    def breaker(self, pause: float = 0.5) -> Breaker:
        return Breaker("cache:1984", pause, lambda: self.now, lambda: self.random)


@pytest.fixture
def world() -> World:
    return World()


REFUSED = ConnectionFailed("cache:1984: Connection refused")


def test_the_first_failure_opens_it_and_one_command_tries_again(world: World) -> None:
    breaker = world.breaker()
    assert breaker.state is State.CLOSED
    breaker.failed(REFUSED, breaker.begin())
    assert breaker.state is State.OPEN
    world.now += 0.4
    with pytest.raises(CircuitOpen) as caught:
        breaker.begin()
    assert str(caught.value) == (
        "cache:1984 has been unavailable for 0.4 s; the next attempt is in 0.1 s"
        " (cache:1984: Connection refused)"
    )
    world.now += 0.1
    breaker.begin()
    assert breaker.state is State.HALF_OPEN
    with pytest.raises(CircuitOpen):
        breaker.begin()
    breaker.answered()
    assert breaker.state is State.CLOSED
    breaker.begin()


def test_pauses_grow_up_to_half_a_minute(world: World) -> None:
    breaker = world.breaker()
    breaker.failed(REFUSED, breaker.begin())
    pauses = []
    for _ in range(9):
        failed_at = world.now
        while breaker.state is State.OPEN:
            world.now += 0.25
            try:
                breaker.begin()
            except CircuitOpen:
                continue
        pauses.append(world.now - failed_at)
        breaker.failed(REFUSED, world.now)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_random_lengthens_pauses(world: World) -> None:
    breaker = world.breaker()
    world.random = 1.0
    breaker.failed(REFUSED, breaker.begin())
    world.now += 0.74
    with pytest.raises(CircuitOpen):
        breaker.begin()
    world.now += 0.02
    breaker.begin()


def test_one_slow_command_among_others_does_not_open_it(world: World) -> None:
    breaker = world.breaker()
    slow = breaker.begin()
    world.now += 0.5
    breaker.answered()
    world.now += 0.5
    breaker.failed(TimedOut("late"), slow)
    assert breaker.state is State.CLOSED
    breaker.failed(TimedOut("late"), breaker.begin() + 0.1)
    assert breaker.state is State.OPEN


def test_commands_that_fail_together_count_once(world: World) -> None:
    breaker = world.breaker()
    began = [breaker.begin() for _ in range(8)]
    for each in began:
        breaker.failed(TimedOut("late"), each)
    world.now += 0.5
    breaker.begin()


def test_a_late_answer_closes_it(world: World) -> None:
    breaker = world.breaker()
    breaker.failed(TimedOut("late"), breaker.begin())
    breaker.answered()
    assert breaker.state is State.CLOSED


def test_errors_that_say_nothing_about_the_server(world: World) -> None:
    breaker = world.breaker()
    breaker.failed(KeyboardInterrupt(), breaker.begin())
    breaker.failed(REFUSED, breaker.begin(), used=True)
    assert breaker.state is State.CLOSED
    breaker.failed(TimedOut("late"), breaker.begin(), used=True)
    assert breaker.state is State.OPEN


def test_answers_do_not_matter_without_a_start_time(world: World) -> None:
    breaker = world.breaker()
    breaker.answered()
    breaker.failed(PoolExhausted("all"))
    assert breaker.state is State.OPEN


def test_another_command_tries_after_an_interrupted_one(world: World) -> None:
    breaker = world.breaker()
    breaker.failed(REFUSED, breaker.begin())
    world.now += 0.5
    breaker.begin()
    world.now += 0.5
    breaker.begin()
    assert breaker.state is State.HALF_OPEN


def test_waiting_callers_get_an_error_while_it_is_open(world: World) -> None:
    breaker = world.breaker()
    breaker.check()
    breaker.failed(REFUSED, breaker.begin())
    with pytest.raises(CircuitOpen):
        breaker.check()
    world.now += 0.5
    breaker.begin()
    breaker.check()


def test_without_a_pause_it_never_opens(world: World) -> None:
    breaker = world.breaker(0)
    breaker.failed(REFUSED, breaker.begin())
    breaker.begin()
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("options", "pause"),
    [
        (Options(), 0.5),
        (Options(timeout=0.1), 0.05),
        (Options(timeout=None), 0.5),
        (Options(breaker_seconds=7), 7),
    ],
)
def test_the_first_pause(world: World, options: Options, pause: float) -> None:
    breaker = breaker_for(options, lambda: world.now, lambda: 0.0)
    breaker.failed(REFUSED, breaker.begin())
    world.now += pause * 0.99
    with pytest.raises(CircuitOpen):
        breaker.begin()
    world.now += pause * 0.02
    breaker.begin()
