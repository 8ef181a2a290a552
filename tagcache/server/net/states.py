"""The two states of a connection: what it waits for, and how close it is to its end.

They are plain enums, compared by identity, because they are checked for each request: each input
of an Automat machine would take several calls.
"""

from __future__ import annotations

import enum


class Flow(enum.Enum):
    """What a connection waits for before it executes more requests."""

    READY = "nothing; all received requests are executed"
    AWAITING = "a reply of the engine"
    TURN_OVER = "its next turn; other clients are served meanwhile"
    BLOCKED = "the client, which does not read its replies"


class Phase(enum.Enum):
    """How close a connection is to its end."""

    SERVING = "requests are accepted"
    ENDING = "no more requests; the received ones are answered, then the closing reply is sent"
    STREAMING = "a response continues until one side closes; no more requests"
    FINISHED = "nothing more is sent; received data is ignored"


# Before Python 3.12, each look-up of a member in its class costs a call.
READY, AWAITING, TURN_OVER, BLOCKED = Flow
SERVING, ENDING, STREAMING, FINISHED = Phase
