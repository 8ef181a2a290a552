"""The bounded log of events."""

from __future__ import annotations

from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tagcache.server.net.listener import Listener
from tagcache.server.observe.events import KINDS, MOST_OF_A_KIND, EventLog
from tagcache.server.observe.traffic import Slow
from tests.helpers import settings_with
from tests.unit.server.line.test_protocol import Server


def test_it_observes_the_log() -> None:
    assert verifyObject(ILogObserver, EventLog())


def test_events_come_newest_first_each_with_its_kind() -> None:
    log = EventLog(lambda: 12.3456)
    log.invalidated("1.2.3.4:5", "INV_TAG", [b"a"], 3)
    log.slow(Slow(77, 9.0, 250.0, "keys", 1, "a", "peer"))
    log({"log_format": "{what} failed", "what": "it", "log_level": _level("error")})
    log.invalidated("unix", "FLUSH", (), 0)
    events = log.after(0, 10)
    assert [event["kind"] for event in events] == ["invalidation", "error", "slow", "invalidation"]
    assert [event["id"] for event in events] == [4, 3, 2, 1]
    assert events[3] == {
        "id": 1,
        "time": 12.346,
        "kind": "invalidation",
        "peer": "1.2.3.4:5",
        "command": "INV_TAG",
        "names": ["a"],
        "more_names": 0,
        "count": 3,
    }
    assert (events[2]["time"], events[2]["command"]) == (9.0, "keys")
    assert events[1]["text"] == "it failed"
    assert [event["id"] for event in log.after(2, 10)] == [4, 3]
    assert [event["id"] for event in log.after(0, 1)] == [4]
    assert [event["id"] for event in log.after(0, 10, ["slow"])] == [2]
    assert log.last == 4


def _level(name: str) -> object:
    from twisted.logger import LogLevel

    return LogLevel.levelWithName(name)


def test_each_kind_is_bounded_and_none_pushes_out_another() -> None:
    log = EventLog()
    log({"log_format": "once", "log_level": _level("error")})
    for number in range(MOST_OF_A_KIND + 50):
        log.invalidated("peer", "INV_TAG", [b"%d" % number], 1)
    assert [log.count(kind) for kind in KINDS] == [MOST_OF_A_KIND, 0, 0, 0, 1]
    assert log.after(0, 10**6)[-1]["text"] == "once"


def test_long_names_and_many_are_cut() -> None:
    log = EventLog()
    log.invalidated("peer", "INV_KEYS", [b"k" * 1000 + b"\xff"] * 50, 50)
    (event,) = log.after(0, 1)
    assert event["more_names"] == 40
    assert {len(name) for name in event["names"]} == {128}


def test_only_warnings_and_worse_are_taken_from_the_log() -> None:
    log = EventLog()
    logger = Logger(namespace="somewhere")
    globalLogPublisher.addObserver(log)
    try:
        logger.info("nothing to see")
        logger.debug("nothing either")
        logger.warn("mind {what}", what="this")
        try:
            raise ValueError("the reason")
        except ValueError:
            logger.failure("it broke", Failure())
    finally:
        globalLogPublisher.removeObserver(log)
    broke, warned = log.after(0, 10)
    assert (warned["kind"], warned["source"], warned["text"]) == (
        "warning",
        "somewhere",
        "mind this",
    )
    assert (broke["kind"], broke["text"]) == ("error", "it broke: the reason")


def test_a_refused_connection_is_an_event_of_its_own() -> None:
    server = Server(settings_with(security={"allowed_ips": ()}, performance={"max_connections": 1}))
    log = EventLog()
    server.connect()
    globalLogPublisher.addObserver(log)
    try:
        assert isinstance(server.listener, Listener)
        server.connect("10.1.2.3")
    finally:
        globalLogPublisher.removeObserver(log)
    (event,) = log.after(0, 10)
    assert event["kind"] == "refused"
    assert "10.1.2.3:5000" in event["text"]
    assert "max_connections reached" in event["text"]


def test_invalidations_of_the_line_protocol_are_events() -> None:
    server = Server(settings_with())
    server.ask(b"PUT\ta\t-\tt,u\tv\nPUT\tb\t-\tt\tv\nPUT\tc\t-\tu\tv\n")
    server.ask(b"INV_TAGS_ALL\tt,u\nINV_TAG\tt\nINV_TAGS_ANY\tt,u\nINV_KEYS\tx,y\nFLUSH\nDEL\tz\n")
    told = [(e["command"], e["names"], e["count"]) for e in reversed(server.events.after(0, 10))]
    assert told == [
        ("INV_TAGS_ALL", ["t", "u"], 1),
        ("INV_TAG", ["t"], 1),
        ("INV_TAGS_ANY", ["t", "u"], 1),
        ("INV_KEYS", ["x", "y"], 0),
        ("FLUSH", [], 0),
    ]
