"""Addresses of targets that are URLs, or Unix sockets: of LMTP, SMTP, HTTP and NATS.  One function for each grammar."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from attrs import frozen

from triosmtp.domain import name_key

__all__ = ["URL_SCHEMES", "Scheme", "TargetAddress", "is_subject", "parse_events_address", "redacted"]

_MAX_PATH: Final = 107  # octets of the address of a Unix socket, without its zero (unix(7))
_MAX_HOSTS: Final = 16
_MAX_SUBJECT: Final = 200  # characters; the id of a message is added
_NATS_PORT: Final = 4222
_HOST: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_-][A-Za-z0-9._-]{0,252}))(?::([0-9]{1,5}))?"
).fullmatch
_URL_PATH: Final = re.compile(r"(?:/[!-~]*)?").fullmatch
# A subject's tokens have no wildcards; the message id is added to them.
_STREAM: Final = re.compile(r"/[A-Za-z0-9_-]{1,64}/[!-~]{1,200}").fullmatch
_SUBJECT: Final = re.compile(r"[^\s.*>/?#]+(?:\.[^\s.*>/?#]+)*").fullmatch
_USER_INFORMATION: Final = re.compile(r"(?<=:)(/{0,2}).+(?=@)", re.DOTALL).sub
_STREAM_QUERY: Final = re.compile(r"(?:(?:^|&)(?:replicas=[1-5]|bucket=[A-Za-z0-9_-]{1,64}))*").fullmatch


@frozen(slots=True)
class TargetAddress:
    """One address: a path, or the hosts and the path of a URL.

    ``path`` is the folder of a Maildir, the path of a Unix socket, ``module:function`` of ``python:``, or the path of a
    URL.  ``hosts`` are pairs of host, without brackets, and port; only ``nats`` has several.
    """

    scheme: str
    path: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    query: str = ""

    @property
    def host(self) -> str:
        """The host; ``""`` without one."""
        return self.hosts[0][0] if self.hosts else ""

    @property
    def port(self) -> int:
        """The port; 0 without a host."""
        return self.hosts[0][1] if self.hosts else 0

    @property
    def is_local(self) -> bool:
        """Whether it is on this host: loopback, a Unix socket, or no network at all."""
        return all(map(_is_loopback, (host for host, _ in self.hosts)))

    def __str__(self) -> str:
        if not self.hosts:
            return f"{self.scheme}:{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{hosts}{self.path}" + (f"?{self.query}" if self.query else "")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"  # RFC 6761, section 6.3


@frozen(slots=True)
class Scheme:
    """A scheme of targets."""

    example: str
    parse: Callable[[str, str, Path | None], TargetAddress]
    """Called with the scheme, what follows its colon, and the folder of the configuration; raises ValueError."""
    secret_options: str = ""
    """The options that take the place of user information in a URL."""


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    if not text.isascii():  # an internationalised name is kept in the form of the DNS, and of certificates
        name, colon, rest = text.partition(":")
        text = name_key(name) + colon + rest
    match = _HOST(text)
    if match is None:
        raise ValueError("no host" if not text else "no host, or no port from 1 to 65535")
    host, port = match[1] or match[2], int(match[3] or default)
    if match[1] is not None:
        host = str(ip_address(match[1]))
    if not 0 < port < 65536:
        raise ValueError("no port from 1 to 65535")
    return host, port


def _authority(rest: str) -> tuple[str, str]:
    """Return the authority and what follows it."""
    if not rest.startswith("//"):
        raise ValueError
    authority, slash, path = rest[2:].partition("/")
    return authority, slash + path


def _host_address(default: int, scheme: str, rest: str, folder: Path | None) -> TargetAddress:
    if scheme == "lmtp" and rest and not rest.startswith("//"):
        if "@" in rest and "/" not in rest:
            raise ValueError("a URL begins with lmtp://")
        path = rest if folder is None else str(folder / rest)
        if "\0" in path or len(path.encode("utf-8", "surrogateescape")) > _MAX_PATH:
            raise ValueError(f"the path of a Unix socket has at most {_MAX_PATH} octets")
        return TargetAddress(scheme, path)
    authority, path = _authority(rest)
    if path not in {"", "/"}:
        raise ValueError("nothing follows host and port")
    return TargetAddress(scheme, hosts=(_host_and_port(authority, default),))


def _http_address(default: int, scheme: str, rest: str, _folder: Path | None) -> TargetAddress:
    authority, path = _authority(rest)
    path, _, query = path.partition("?")
    if _URL_PATH(path) is None or "#" in path + query or not re.fullmatch("[!-~]*", query):
        raise ValueError("a path has printable ASCII characters, and no fragment")
    found = TargetAddress(scheme, path or "/", (_host_and_port(authority, default),), query)
    if scheme == "http" and not found.is_local:
        raise ValueError("http:// is for loopback only: use https://")
    return found


def _nats_address(default: int, scheme: str, rest: str, _folder: Path | None) -> TargetAddress:
    authority, path = _authority(rest)
    path, _, query = path.partition("?")
    hosts = _servers(default, authority)
    if _STREAM(path) is None or not is_subject(path.split("/", 2)[2]):
        raise ValueError("the name of a stream, and a subject without wildcards, follow the servers")
    names = [each.partition("=")[0] for each in query.split("&")]
    if _STREAM_QUERY(query) is None or len(set(names)) < len(names):
        raise ValueError("?replicas=NUMBER and &bucket=NAME may follow, each once")
    return TargetAddress(scheme, path, hosts, query)


def _servers(default: int, authority: str) -> tuple[tuple[str, int], ...]:
    hosts = tuple(_host_and_port(each, default) for each in authority.split(","))
    if len(hosts) > _MAX_HOSTS:
        raise ValueError(f"more than {_MAX_HOSTS} servers")
    return hosts


def redacted(text: str) -> str:
    """Return ``text`` without what may be the user information of a URL, also of one that lacks its slashes."""
    return _USER_INFORMATION(r"\1…", text)


def is_subject(text: str) -> bool:
    """Return whether messages may be published under ``text``: subjects that begin with $ belong to the servers."""
    return len(text) <= _MAX_SUBJECT and _SUBJECT(text) is not None and not text.startswith("$")


def parse_events_address(text: str) -> TargetAddress:
    """Read ``nats://host,host:port/subject``, without a stream.

    :raises ValueError: if it is something else; the text does not hold the user information of a URL.
    """
    scheme, _, rest = text.partition(":")
    expected = f'expected nats://host[:port],…/subject, found "{redacted(text)}"'
    if "@" in rest.partition("//")[2].partition("/")[0]:
        raise ValueError("no user name or password stands in the address: use Publish_Events_Credentials_File")
    try:
        authority, path = _authority(rest)
        hosts = _servers(_NATS_PORT, authority)
    except ValueError as error:
        raise ValueError(expected + (f": {error}" if str(error) else "")) from None
    if scheme.lower() != "nats" or not is_subject(path[1:]):
        raise ValueError(expected)
    return TargetAddress("nats", path, hosts)


_AUTH: Final = "Auth_User and Auth_Password_File of a Delivery"
_SIGNED: Final = "Secret_File of a Delivery"

URL_SCHEMES: Mapping[str, Scheme] = {
    "lmtp": Scheme("lmtp:/path or lmtp://host:port", partial(_host_address, 24), _AUTH),
    "smtp": Scheme("smtp://host:port", partial(_host_address, 25), _AUTH),
    "smtps": Scheme("smtps://host:port", partial(_host_address, 465), _AUTH),
    "https": Scheme("https://host/path", partial(_http_address, 443), _SIGNED),
    "http": Scheme("http://localhost/path", partial(_http_address, 80), _SIGNED),
    "nats": Scheme(
        "nats://host,host,host/STREAM/subject", partial(_nats_address, _NATS_PORT), "Credentials_File of a Delivery"
    ),
}
"""The grammar of each scheme; ``target_address.py`` lists those that are known."""
