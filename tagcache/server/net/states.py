"""The two states of a connection: what it waits for, and how far it is on its way to its end.

They are plain enums, compared by identity, and not a machine of Automat's: they are looked at with
each request, and each input of such a machine takes several calls.
"""

from __future__ import annotations

import enum


class Flow(enum.Enum):
    """What a connection waits for before it executes more of what its client sent."""

    READY = "nothing; all that came is executed"
    AWAITING = "a reply of the engine"
    TURN_OVER = "its next turn: others are served meanwhile"
    BLOCKED = "the client, which does not take its replies"


class Phase(enum.Enum):
    """How far a connection is on its way to its end."""

    SERVING = "requests are taken"
    ENDING = "no more are taken; those that came are answered, and the closing reply follows"
    STREAMING = "a response goes on until one side closes; no more requests are taken"
    FINISHED = "nothing more is to be said; what still comes in is not looked at"


# Before Python 3.12 a member costs a call each time that it is looked up in its class.
READY, AWAITING, TURN_OVER, BLOCKED = Flow
SERVING, ENDING, STREAMING, FINISHED = Phase
