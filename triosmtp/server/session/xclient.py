"""XCLIENT, XREMOTEIP, XDUMPCONTEXT and XSETCONTEXT: the commands of trusted peers.

A peer's own address decides once which of these commands it may use.  It keeps these rights with each client that it
announces, and no client gains them by being announced, as in Postfix.
"""

from collections.abc import Mapping
from typing import Final, Literal

from attrs import evolve

from triosmtp.event import PeerAnnounced
from triosmtp.policy import Authenticated, Session
from triosmtp.server.profile import Profile
from triosmtp.server.session.refusal import Refusal
from triosmtp.server.session.state import SessionState
from triosmtp.smtp import TRUSTED_EXTENSIONS, Hello, Reply, XClient, XDumpContext, XRemoteIP, XSetContext
from triosmtp.sockets.peer import peer_from_sockaddr
from triosmtp.variables import is_reserved

__all__ = ["adopt_announced_client", "answer_context"]

_OURS: Final = ("proxy_", "real_", "xclient_")
_KEPT: Final = ("proxy_", "real_", "connection_")
_MAX_VARIABLES: Final = 1000


def adopt_announced_client(state: SessionState, event: XClient | XRemoteIP) -> None:
    """Make the session that of the announced client.

    Knowledge about the client before it is forgotten.  TLS stays, but not its certificate, which proves nothing about
    the announced client.  XREMOTEIP keeps EHLO.
    """
    session, variables = state.session, state.session.variables
    if not state.own_peer:
        state.own_peer, state.own_rights = session.peer, state.profile.rules.extensions & TRUSTED_EXTENSIONS
    kept = {key: value for key, value in variables.items() if key.startswith(_KEPT)}
    kept.setdefault("real_peer", state.own_peer)
    if isinstance(event, XClient):
        state.hello = _apply(session, event.attributes, kept)
    else:
        kept |= {key: value for key, value in variables.items() if key.startswith("ehlo_")}
        session.peer, session.peer_address = peer_from_sockaddr((str(event.address), 0)).text, event.address
        session.auth = None
    session.renew_info()
    session.received_start = None  # it has the client's name
    variables.renew()
    variables.record(kept)
    session.headers.clear()
    session.capabilities = None
    session.is_proxied = True
    if session.tls is not None:
        variables.record(session.tls.variables())
    state.discarded_by = ""
    state.switch_profile(_profile_of_client(state))
    by: Literal["XCLIENT", "XREMOTEIP"] = "XCLIENT" if isinstance(event, XClient) else "XREMOTEIP"
    authenticated = session.auth is not None
    state.connection.change_peer(
        state.profile.rules, hello=state.hello, authenticated=authenticated, banner=by == "XCLIENT"
    )
    state.service.emit(PeerAnnounced(session=session.info, real_peer=state.own_peer, by=by))


def _apply(session: Session, attributes: Mapping[str, str | None], kept: dict[str, str]) -> Hello | None:
    """Apply the attributes of XCLIENT; return its hello.  Absent attributes keep their values, as in Postfix."""
    if "ADDR" in attributes or "PORT" in attributes:
        address = attributes.get("ADDR", None if session.peer_address is None else str(session.peer_address))
        peer = None if address is None else peer_from_sockaddr((address, int(attributes.get("PORT") or 0)))
        session.peer = "unknown" if peer is None else peer.text
        session.peer_address = None if peer is None else peer.address
    if attributes.get("DESTADDR"):
        session.local = peer_from_sockaddr((attributes["DESTADDR"], int(attributes.get("DESTPORT") or 0))).text
    for name in ("NAME", "REVERSE_NAME"):
        variable = f"xclient_{name.lower()}"
        value = attributes.get(name, session.variables.get(variable))
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


def _profile_of_client(state: SessionState) -> Profile:
    generation, listen = state.generation, state.listen
    settings = generation.config.resolve(listen, state.session.peer_address)
    profile = generation.profiles.of(listen, settings).current()
    extensions = profile.rules.extensions - TRUSTED_EXTENSIONS | state.own_rights
    return evolve(profile, rules=evolve(profile.rules, extensions=extensions))


def answer_context(session: Session, event: XDumpContext | XSetContext) -> Reply | None:
    """Read or write the contexts for a trusted peer; return the reply, None for the usual one.

    :raises Refusal: if the peer may not write a variable.
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
