"""The grammar of Policy: the forms of its words, for errors and documents.  Each kind of policy adds a line here."""

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["ADDRESS_SCHEMES", "POLICY_FORMS", "SOCKET_SCHEMES", "forms_of"]

POLICY_FORMS: Final[Mapping[str, tuple[str, ...]]] = {
    "python": ("python:package.module:Name",),
    "websocket": ("websocket:group",),
    "milter": ("milter:unix:/path", "milter:inet:host:port"),
    "policyd": ("policyd:unix:/path", "policyd:inet:host:port"),
    "rspamd": ("rspamd:http://host:port", "rspamd:https://host:port"),
    "filter": ("filter:name",),
    "lua": ("lua",),
}
"""The forms of each word, by what stands before its first colon."""

SOCKET_SCHEMES: Final = ("milter", "policyd")
"""The words behind which the address of a socket stands."""

ADDRESS_SCHEMES: Final = (*SOCKET_SCHEMES, "rspamd")
"""The words behind which an address stands, in Policy or in Connect_To."""


def forms_of(schemes: Iterable[str] = POLICY_FORMS) -> str:
    """Return the forms of words as a list for a sentence: ``a, b or c``."""
    forms = [form for scheme in schemes for form in POLICY_FORMS[scheme]]
    return " or ".join(filter(None, (", ".join(forms[:-1]), forms[-1])))
