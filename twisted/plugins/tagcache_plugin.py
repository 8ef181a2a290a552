"""The plugin that adds the ``tagcache`` command and two reactors to ``twistd``.

twistd imports it whenever it lists its commands, so it imports nothing of ours. The module that it
names is imported when the command is used.
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

native = Reactor("tagcache", "tagcache.nativereactor", "The epoll reactor with a native pump.")
