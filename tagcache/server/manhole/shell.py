"""An SSH shell inside the running server, with public keys only, and the live objects by name."""

from __future__ import annotations

from pathlib import Path
from traceback import format_exception_only
from typing import Any

from twisted.conch import manhole, manhole_ssh
from twisted.conch.checkers import IAuthorizedKeysDB, SSHPublicKeyChecker
from twisted.conch.insults import insults
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, SSHServerTransport
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tagcache.config.settings import Settings
from tagcache.server.manhole.keys import KeyFileError, host_key, read_authorized_keys
from tagcache.server.net.connections import Connection
from tagcache.server.net.listener import Listener

log = Logger(namespace="tagcache.manhole")


@implementer(IAuthorizedKeysDB)
class AuthorizedKeys:
    """The keys of the one user. The file is read at each attempt, so changes apply at once."""

    def __init__(self, settings: Settings) -> None:
        self._user = settings.manhole.user.encode()
        self._path = Path(settings.manhole.authorized_keys_file)

    def getAuthorizedKeys(self, username: bytes) -> list[Key]:
        return self.read() if username == self._user else []

    def read(self) -> list[Key]:
        """Return the current keys in the file; none, with a log line, if it cannot be used."""
        try:
            return read_authorized_keys(self._path)
        except KeyFileError as error:
            log.error("nobody can log in: {why}", why=str(error))
            return []


class _Portal(Portal):
    """Records on each avatar the key that was used to log in."""

    def login(self, credentials: Any, mind: object, *interfaces: Any) -> Deferred[Any]:
        def note(entered: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
            entered[1].key = Key.fromString(credentials.blob)
            return entered

        return super().login(credentials, mind, *interfaces).addCallback(note)


class Interpreter(manhole.ManholeInterpreter):
    """Runs typed code. Exiting ends the session, not the server; a Deferred shows its result."""

    def runcode(self, *args: Any, **more: Any) -> None:
        try:
            super().runcode(*args, **more)
        except SystemExit as leaving:
            self.leave(leaving.code)
        except BaseException:
            # KeyboardInterrupt and similar ones are shown like any other exception.
            self.showtraceback()

    def leave(self, code: object) -> None:
        """End the session, because the typed code exited with ``code``."""
        self.handler.handle_QUIT()

    def displayhook(self, obj: object) -> None:
        if not isinstance(obj, Deferred):
            super().displayhook(obj)
            return
        self.locals["_"] = obj
        # If the result arrives after the next prompt was shown, write it before that prompt.
        late = not obj.called
        obj.addCallbacks(self._show, self._tell, callbackArgs=(late,), errbackArgs=(late,))

    def _show(self, result: object, late: bool) -> object:
        if result is not None:
            self.write(repr(result), late)
        return result

    def _tell(self, failure: Failure, late: bool) -> None:
        self.write("".join(format_exception_only(failure.value)), late)


class OneCommand(Interpreter):
    """Runs one command.

    The Deferreds in ``awaited`` fire when their results are shown; then ``status`` is final.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.awaited: list[Deferred[None]] = []
        self.status = 0

    def run(self, command: str) -> None:
        """Run a command, which must be complete."""
        if self.runsource(command, symbol="single"):
            self.write("SyntaxError: the command is not complete\n")
            self.status = 1

    def leave(self, code: object) -> None:
        if isinstance(code, str):
            self.write(code)
        self.status = code & 0xFF if isinstance(code, int) else int(code is not None)

    def showtraceback(self) -> None:
        super().showtraceback()
        self.status = 1

    def showsyntaxerror(self, *args: Any, **more: Any) -> None:
        super().showsyntaxerror(*args, **more)
        self.status = 1

    def displayhook(self, obj: object) -> None:
        super().displayhook(obj)
        if isinstance(obj, Deferred):
            self.awaited.append(obj)

    def _tell(self, failure: Failure, late: bool) -> None:
        super()._tell(failure, late)
        self.status = 1


class Shell(manhole.Manhole):
    """The prompt."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.interpreter = Interpreter(self, self.namespace)

    def initializeScreen(self) -> None:
        self.terminal.reset()
        self.terminal.write(b"TagCache; help() lists the commands, Ctrl-D leaves.\n")
        self.terminal.write(self.ps[self.pn])
        self.setInsertMode()

    def terminalSize(self, width: int, height: int) -> None:
        """Set the size without clearing the screen, because that would remove the greeting."""
        self.width, self.height = width, height


class _Output:
    """Writes the output of one command of a session without a prompt."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def addOutput(self, data: str | bytes, isAsync: bool | None = None) -> None:
        self._process.write(data.encode() if isinstance(data, str) else data)


class _ShellTransport(manhole_ssh.TerminalSessionTransport):
    """Ends a session like a program that exits with 0, not like a lost connection."""

    def __init__(self, proto: Any, chainedProtocol: Any, *more: Any) -> None:
        super().__init__(proto, chainedProtocol, *more)
        chainedProtocol.transport.loseConnection = lambda: proto.processEnded(_ended(0))


class Session(manhole_ssh.TerminalSession):
    """A session with a prompt, or of one command: ``ssh host 'stats()'``."""

    namespace: dict[str, Any]
    reactor: Any
    # Used by a session without a terminal.
    width, height = 80, 24

    def execCommand(self, proto: Any, cmd: bytes) -> None:
        # The reply to this request is sent when this returns. It must be sent before the command
        # closes the channel: OpenSSH reports replies for a closed channel as errors.
        self.reactor.callLater(0, self._run, proto, cmd)

    def _run(self, proto: Any, cmd: bytes) -> None:
        interpreter = OneCommand(_Output(proto), dict(self.namespace))
        interpreter.run(cmd.decode("utf-8", "replace"))

        def end(_: object) -> None:
            proto.write(b"\n")
            proto.processEnded(_ended(interpreter.status))

        DeferredList(interpreter.awaited).addCallback(end)

    def windowChanged(self, newWindowSize: Any) -> None:
        """Ignore the size of the window."""

    def eofReceived(self) -> None:
        """Ignore the end of input: Ctrl-D or the end of the connection ends the prompt."""


def _ended(status: int) -> Failure:
    """Return the reason for the end of a program that exits with ``status``."""
    return Failure(ProcessTerminated(status) if status else ProcessDone(None))


class Transport(SSHServerTransport):
    """An SSH connection that sets its socket options, and is listed among the connections."""

    connection: Connection | None = None

    def connectionMade(self) -> None:
        self.connection = self.factory.listener.opened(self.transport)
        self.factory.open.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.bytes_in += len(data)
            self.connection.last_active = self.factory.listener.connections.monotonic()
        super().dataReceived(data)

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        # A client that disconnects sends the same message as one that reports an error.
        if reasonCode != DISCONNECT_BY_APPLICATION:
            super().receiveError(reasonCode, description)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.connection is not None:
            self.factory.listener.closed(self.connection)
        self.factory.open.discard(self)
        super().connectionLost(reason)


class ManholeFactory(manhole_ssh.ConchFactory):
    """Admits connections to the shell. Raises KeyFileError."""

    protocol = Transport
    noisy = False

    def __init__(
        self, settings: Settings, listener: Listener, namespace: dict[str, Any], reactor: Any
    ) -> None:
        self.listener = listener
        self.open: set[Transport] = set()
        self._authorized = AuthorizedKeys(settings)
        realm = manhole_ssh.TerminalRealm()
        realm.transportFactory = _ShellTransport
        realm.sessionFactory = type(
            "BoundSession", (Session,), {"namespace": namespace, "reactor": reactor}
        )
        realm.chainedProtocolFactory = lambda: insults.ServerProtocol(Shell, namespace)
        super().__init__(_Portal(realm, [SSHPublicKeyChecker(self._authorized)]))
        key = host_key(Path(settings.manhole.host_key_file))
        self.publicKeys = {key.sshType(): key.public()}
        self.privateKeys = {key.sshType(): key}

    def configure(self, settings: Settings) -> None:
        """Close the sessions whose key is no longer in the file."""
        keys = self._authorized.read()
        stale = {
            each.connection
            for each in self.open
            # A client that has not logged in yet has no avatar.
            if hasattr(each, "avatar") and each.avatar.key not in keys
        }
        self.listener.close(stale.__contains__, "their keys are no longer authorized")

    def buildProtocol(self, addr: IAddress) -> Protocol | None:
        if self.listener.refuse(addr) is not None:
            return None
        protocol: Protocol = super().buildProtocol(addr)
        return protocol
