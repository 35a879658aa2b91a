"""A trusted peer that speaks for others: whose session it says this is, and its way to the session's context.

What it may say is settled by its own address, once: whoever it speaks for, it keeps those rights, and no peer gains
them by being spoken for.  So does Postfix.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from attrs import evolve

from triosmtp.config import Listen
from triosmtp.event import PeerAnnounced
from triosmtp.policy import Authenticated, Session
from triosmtp.server.profile import Profile
from triosmtp.server.service import Service
from triosmtp.server.session.refusal import Refusal
from triosmtp.smtp import TRUSTED_EXTENSIONS, Connection, Hello, Reply, XClient, XDumpContext, XRemoteIP, XSetContext
from triosmtp.sockets.listener import peer_from_sockaddr
from triosmtp.variables import is_reserved

__all__ = ["Spokesman", "answer_context"]

_OURS: Final = ("proxy_", "real_", "xclient_")
_KEPT: Final = ("proxy_", "real_", "connection_")
_MAX_VARIABLES: Final = 1000


class Spokesman:
    """The peer of one session, as far as it is trusted."""

    __slots__ = ("_connection", "_generation", "_listen", "_real", "_rights", "_service", "_session", "resettle")

    def __init__(self, service: Service, listen: Listen, session: Session, connection: Connection) -> None:
        self._service = service
        self._generation = service.generation
        self._listen = listen
        self._session = session
        self._connection = connection
        self._real = session.peer
        self._rights = connection.settings.extensions & TRUSTED_EXTENSIONS
        self.resettle: Callable[[Profile], None] = lambda _: None
        """What is to be called with the profile of another peer."""

    def speak_for(self, event: XClient | XRemoteIP, hello: Hello | None) -> tuple[Profile, Hello | None]:
        """Make the session one of the peer that is told of; give what holds for that, and its hello.

        What was learnt of the one before it is forgotten.  TLS stays, without its certificate: that says nothing of the
        one that is told of.  ``hello`` is the one before, which XREMOTEIP lets stand.
        """
        session, variables = self._session, self._session.variables
        kept = {key: value for key, value in variables.items() if key.startswith(_KEPT)}
        kept.setdefault("real_peer", self._real)
        if isinstance(event, XClient):
            hello = self._take(event.attributes, variables.snapshot(), kept)
        else:
            kept |= {key: value for key, value in variables.items() if key.startswith("ehlo_")}
            session.peer, session.peer_address = peer_from_sockaddr((str(event.address), 0)).text, event.address
            session.auth = None
        variables.renew()
        variables.record(kept)
        session.headers.clear()
        session.spoken_for = True
        if session.tls is not None:
            variables.record(session.tls.variables())
        profile = self._profile()
        by: Literal["XCLIENT", "XREMOTEIP"] = "XCLIENT" if isinstance(event, XClient) else "XREMOTEIP"
        self._connection.change_peer(
            profile.rules, hello=hello, authenticated=session.auth is not None, banner=isinstance(event, XClient)
        )
        self.resettle(profile)
        self._service.emit(PeerAnnounced(session=session.info, real_peer=self._real, by=by))
        return profile, hello

    def _take(self, attributes: Mapping[str, str | None], before: dict[str, str], kept: dict[str, str]) -> Hello | None:
        """Take the attributes of XCLIENT; give its hello.  Attributes that do not come stay, as in Postfix."""
        session = self._session
        if "ADDR" in attributes or "PORT" in attributes:
            address = attributes.get("ADDR", None if session.peer_address is None else str(session.peer_address))
            peer = None if address is None else peer_from_sockaddr((address, int(attributes.get("PORT") or 0)))
            session.peer = "unknown" if peer is None else peer.text
            session.peer_address = None if peer is None else peer.address
        if attributes.get("DESTADDR"):
            session.local = peer_from_sockaddr((attributes["DESTADDR"], int(attributes.get("DESTPORT") or 0))).text
        for name in ("NAME", "REVERSE_NAME"):
            variable = f"xclient_{name.lower()}"
            value = attributes.get(name, before.get(variable))
            if value is not None:
                kept[variable] = value
        login, domain = attributes.get("LOGIN"), attributes.get("HELO")
        session.auth = None if login is None else Authenticated("XCLIENT", login)
        if login is not None:
            kept |= {"auth_name": "XCLIENT", "auth_status": "pass", "auth_user": login}
        if domain is None:
            return None
        kept["ehlo_domain"] = domain
        verb: Literal["EHLO", "HELO"] = "EHLO" if attributes.get("PROTO") == "ESMTP" else "HELO"
        kept["ehlo_string"] = f"{verb} {domain}"
        return Hello(verb, domain, f"{verb} {domain}")

    def _profile(self) -> Profile:
        generation, listen = self._generation, self._listen
        settings = generation.config.resolve(listen, self._session.peer_address)
        profile = generation.profiles.of(listen, settings)
        extensions = profile.rules.extensions - TRUSTED_EXTENSIONS | self._rights
        return evolve(profile, rules=evolve(profile.rules, extensions=extensions))


def answer_context(session: Session, event: XDumpContext | XSetContext) -> Reply | None:
    """Read or write the context for a trusted peer; give the reply, None for the usual one.

    :raises Refusal: where a variable is not its to write.
    """
    if isinstance(event, XDumpContext):
        contexts = (("connection", session.variables), ("message", session.message_variables))
        lines = [f"[{name}] {key} {value}" for name, context in contexts for key, value in context.items()]
        return Reply(250, (*map(_printable, lines), "XDUMPCONTEXT complete"))
    for name in event.values:
        if is_reserved(name) or name.startswith(_OURS):
            raise Refusal(Reply(501, "A variable that cannot be set", "5.5.4"), "protocol", f"XSETCONTEXT {name}")
    if len(session.variables) + len(event.values) > _MAX_VARIABLES:
        raise Refusal(Reply(452, "Too many variables", "4.5.3"), "protocol", f"above {_MAX_VARIABLES} variables")
    session.variables.update(event.values)
    return None


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)
