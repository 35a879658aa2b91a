"""A server in a thread, for tests that do not use Trio: real sockets on loopback, and everything else real, too."""

import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from triosmtp.auth import MockKey, PasswordFile
from triosmtp.config import parse_config
from triosmtp.delivery import Delivery
from triosmtp.event import ServerEvent
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.server.server import Server, run_server
from triosmtp.server.startup import open_service
from triosmtp.sockets.bound_socket import plan_sockets
from triosmtp.testing.memory_server import ReceivedMessage, as_received
from triosmtp.x509.authority import Authority, Credential

__all__ = ["Controller"]

_NAME = "127.0.0.1:0"
_CONFIGURATION = """
Open_Relay = true
Spool_Directory = "{folder}"
TLS_Watch = false
Auth_Failure_Delay = 0.001
Auth_Failure_Rate_Per_Peer = off
{defaults}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{
{options}
}} }}
"""
_TLS = """
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
TLS_Client_CA = "{folder}/authority.pem"
AuthExternalParameters = [ map = "dns" ]
"""
_AUTH = """
AuthPlainParameters = [ uri = "file://{folder}/passwords" stored_cleartext = true ]
AuthCramMD5Parameters = [ uri = "file://{folder}/passwords" stored_cleartext = true ]
Allow_Plaintext_Auth = {plaintext}
"""


class Controller:
    """Serves on a free port of 127.0.0.1, in a thread of its own, from :meth:`start` to :meth:`stop`.

    It is a context manager of both.  It accepts mail for every recipient and keeps it in :attr:`messages`, unless
    ``policy``, ``deliver`` (as for :func:`triosmtp.serve`) or ``options`` says otherwise.  ``options`` is text that
    stands in the Listen, such as ``'Idle_Time = 5 Max_Message_Size = 1000'``.  ``tls`` has it offer STARTTLS, with a
    certificate for ``localhost`` and 127.0.0.1, and ask for a client certificate; ``Use_SSL = true`` in ``options``
    then has TLS begin with the first byte.  ``users`` maps the users of AUTH to their passwords; without ``tls`` these
    are taken in plaintext.
    """

    hostname = "127.0.0.1"

    def __init__(
        self,
        options: str = "",
        *,
        policy: Policy | Iterable[Policy] | None = None,
        deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
        tls: bool = False,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.port = 0
        """The port, once it is started."""
        self.messages: list[ReceivedMessage] = []
        """Accepted messages, unless ``deliver`` was given; each is here before its client receives 250."""
        self.events: list[ServerEvent] = []
        """Every event of every session (see :mod:`triosmtp.event`)."""
        self.users = dict(users or {})
        """The users of AUTH, with their passwords."""
        self.authority = Authority.create("triosmtp test CA") if tls else None
        """Has issued the server's certificate, and is trusted to issue those of clients; None without TLS."""
        self._options = options
        self._policy = policy
        self._deliver = deliver or self._keep
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._end: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to serve; return when the socket listens.

        :raises ConfigError: if the options cannot be used.
        :raises ValueError: if a user is not valid: a name with a colon, an empty password.
        :raises RuntimeError: if it was started already.
        """
        if self._thread is not None:
            raise RuntimeError("it was started already")
        self._folder = tempfile.TemporaryDirectory(prefix="triosmtp-")
        self._started.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="triosmtp", daemon=True)
        self._thread.start()
        self._started.wait()
        if not self.port:
            self.stop()

    def stop(self) -> None:
        """End every session, and return when the thread has ended.  May be called again.

        :raises Exception: if the server failed meanwhile.
        """
        if self._thread is None or self._folder is None:
            return
        if self._end is not None:
            with suppress(trio.RunFinishedError):  # it failed: see below
                self._end()
        self._thread.join()
        self._folder.cleanup()
        self._thread = self._folder = self._end = None
        self.port = 0
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()

    def client_context(self, certificate: Credential | None = None) -> ssl.SSLContext:
        """Return a context for clients that trusts the server, and presents ``certificate``.

        ``controller.authority.issue("client", dns=["client.example"])`` issues one.

        :raises RuntimeError: if it is not started, or was made without ``tls``.
        """
        if self._folder is None or self.authority is None:
            raise RuntimeError("there is no TLS: start a Controller(tls=True)")
        context = ssl.create_default_context(cadata=self.authority.certificate_pem.decode("ascii"))
        if certificate is not None:
            with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
                context.load_cert_chain(*certificate.write(Path(folder), "client"))
        return context

    # In the thread

    def _configuration(self, folder: Path) -> str:
        defaults, extensions = "", ["ENHANCEDSTATUSCODES", "CHUNKING"]
        mechanisms = []
        if self.authority is not None:
            self.authority.issue("localhost", dns=["localhost"], ip=["127.0.0.1"]).write(folder, "server")
            (folder / "authority.pem").write_bytes(self.authority.certificate_pem)
            defaults += _TLS.format(folder=folder)
            extensions.append("STARTTLS")
            mechanisms.append("EXTERNAL")
        if self.users:
            passwords = folder / "passwords"
            passwords.touch(0o600)
            passwords.write_text("".join(f"{user}:{password}\n" for user, password in self.users.items()))
            stored = PasswordFile(passwords, cleartext=True)
            if any("\n" in user or not stored.lookup(user).verify(self.users[user]) for user in self.users):
                raise ValueError("users: a name or password that a file of passwords cannot hold")
            defaults += _AUTH.format(folder=folder, plaintext="false" if self.authority else "true")
            mechanisms += ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]
        if mechanisms:
            extensions.append(f"AUTH {' '.join(mechanisms)}")
        quoted = " ".join(f'"{each}"' for each in extensions)
        defaults += f"SMTP_Extensions = ( {quoted} )\n"
        return _CONFIGURATION.format(folder=folder, defaults=defaults, options=self._options)

    async def _keep(self, message: Message) -> None:
        self.messages.append(as_received(message))

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        assert self._folder is not None, "start() made it"
        folder = Path(self._folder.name)
        service = await open_service(
            parse_config(self._configuration(folder)),
            policy=self._policy,
            deliver=self._deliver,
            observers=(self.events.append,),
            mock_key=MockKey(),
        )
        over, token = trio.Event(), trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            # As serve() does, but with a key for mock credentials of its own: serve() uses that of the machine.
            server: Server = await nursery.start(run_server, service, plan_sockets(service.config).opened)
            self.port = server.addresses[_NAME][1]
            self._end = partial(token.run_sync_soon, over.set)  # of any thread, one that runs Trio, too
            self._started.set()
            await over.wait()
            nursery.cancel_scope.cancel()
