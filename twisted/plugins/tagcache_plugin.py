"""What ``twistd`` reads to learn the ``tagcache`` command.

It is imported whenever twistd lists its commands, so it imports nothing of ours: the
named module is loaded when the command is used.
"""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

tagcache = ServiceMaker(
    "tagcache",
    "tagcache.tap",
    "A tag-aware cache server: line protocol, socket options, manhole.",
    "tagcache",
)

uvloop = Reactor("uvloop", "tagcache.uvloopreactor", "The asyncio reactor on uvloop's event loop.")
