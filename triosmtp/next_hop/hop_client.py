"""XCLIENT and XFORWARD of Postfix, which announce the client to a hop."""

from triosmtp.message import Origin
from triosmtp.smtp.client_command import client_attributes
from triosmtp.smtp.extensions import Extensions

__all__ = ["xclient_lines", "xforward_lines"]


def xclient_lines(extensions: Extensions, origin: Origin) -> list[bytes]:
    """Return XCLIENT for a client, with the attributes that the hop offers (XCLIENT_README); nothing if it has none.

    It is one line, also if the client's names are long: after the first one the client has no right to a second.
    """
    attributes = {
        "ADDR": _address(origin),
        "PORT": _port(origin),
        "NAME": origin.name,
        "PROTO": _protocol(origin),
        "HELO": origin.helo,
        "LOGIN": "" if origin.auth_mechanism == "XCLIENT" else origin.auth_user,  # it must have authenticated here
    }
    offered = extensions.parameters("XCLIENT")
    lines = client_attributes("XCLIENT", attributes, offered)
    return lines if len(lines) < 2 else client_attributes("XCLIENT", attributes | {"NAME": "", "HELO": ""}, offered)


def xforward_lines(extensions: Extensions, origin: Origin) -> list[bytes]:
    """Return the lines of XFORWARD for a client (XFORWARD_README); none if it is not offered."""
    attributes = {
        "NAME": origin.name,
        "ADDR": _address(origin),
        "PORT": _port(origin),
        "PROTO": _protocol(origin),
        "HELO": origin.helo,
        "IDENT": origin.session,
        "SOURCE": "REMOTE",
    }
    return client_attributes("XFORWARD", attributes, extensions.parameters("XFORWARD"))


def _address(origin: Origin) -> str:
    if origin.address is None:
        return ""
    return f"IPV6:{origin.address}" if origin.address.version == 6 else str(origin.address)


def _port(origin: Origin) -> str:
    port = origin.peer.rpartition(":")[2]
    return port if port.isdigit() else ""


def _protocol(origin: Origin) -> str:
    return "ESMTP" if origin.extended else "SMTP"
