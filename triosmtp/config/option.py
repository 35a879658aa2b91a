"""A row of the option table, and the names of the scopes in which it is valid."""

from typing import TypeVar

import attrs
from attrs import frozen

from triosmtp.config.types.option_type import OptionType

__all__ = [
    "BINDING",
    "BINDING_GROUP",
    "CONSUMER",
    "CONTROL",
    "CONTROL_LISTEN",
    "CONTROL_LISTENER",
    "DELIVERY",
    "DOMAIN_SCOPE",
    "ESMTP_LISTENER",
    "EVERYWHERE",
    "FILTER",
    "GLOBAL",
    "LISTEN",
    "LISTENERS",
    "LOG",
    "NOT_GLOBAL",
    "PATHWAY_GROUP",
    "PATHWAY_SCOPE",
    "PEER",
    "POLICY",
    "POLICY_LISTEN",
    "POLICY_LISTENER",
    "SCRIPT",
    "SCRIPTLET",
    "SECURITY",
    "SERVER_NAME",
    "STATUS",
    "STATUS_LISTEN",
    "STATUS_LISTENER",
    "WITH_DELIVERY",
    "WITH_DELIVERY_AND_SERVER_NAME",
    "WITH_DOMAIN",
    "WITH_FILTER",
    "WITH_POLICY",
    "WITH_SERVER_NAME",
    "Option",
    "option",
]

_T = TypeVar("_T")

GLOBAL = "global"
PATHWAY_GROUP = "Pathway_Group"
PATHWAY_SCOPE = "Pathway"
ESMTP_LISTENER = "ESMTP_Listener"
LISTEN = "Listen"
PEER = "Peer"
SERVER_NAME = "Server_Name"
CONTROL_LISTENER = "Control_Listener"
CONTROL_LISTEN = "Listen of a Control_Listener"
POLICY_LISTENER = "Policy_Listener"
SCRIPT = "script"
SCRIPTLET = "scriptlet"
SECURITY = "Security"
POLICY_LISTEN = "Listen of a Policy_Listener"
STATUS_LISTENER = "Status_Listener"
STATUS_LISTEN = "Listen of a Status_Listener"
LOG = "Log"
DOMAIN_SCOPE = "Domain"
FILTER = "Filter"
DELIVERY = "Delivery"
CONSUMER = "Consumer"
BINDING = "Binding"
BINDING_GROUP = "Binding_Group"

EVERYWHERE = (GLOBAL, PATHWAY_GROUP, PATHWAY_SCOPE, ESMTP_LISTENER, LISTEN, PEER)
NOT_GLOBAL = EVERYWHERE[1:]
CONTROL = (CONTROL_LISTENER, CONTROL_LISTEN)
POLICY = (POLICY_LISTENER, POLICY_LISTEN)
STATUS = (STATUS_LISTENER, STATUS_LISTEN)
LISTENERS = (ESMTP_LISTENER, LISTEN, *CONTROL, *POLICY, *STATUS)
WITH_DOMAIN = (*EVERYWHERE, DOMAIN_SCOPE)
WITH_FILTER = (*EVERYWHERE, FILTER)
WITH_POLICY = (*EVERYWHERE, *POLICY)
WITH_SERVER_NAME = (*WITH_POLICY, SERVER_NAME)
WITH_DELIVERY = (*WITH_POLICY, DELIVERY)
WITH_DELIVERY_AND_SERVER_NAME = (*WITH_SERVER_NAME, DELIVERY)


@frozen(slots=True)
class Option:
    """One row of the table.

    The option is valid in ``scopes``; in those of ``idle_in`` it has no effect.  If it is ``reloadable``, a reload
    applies a new value to new connections, without a restart.
    """

    name: str
    type: OptionType[object]
    default: object
    scopes: tuple[str, ...]
    idle_in: tuple[str, ...]
    reloadable: bool
    doc: str

    @property
    def field(self) -> str:
        """The field of :class:`Settings`."""
        return self.name.lower()

    def write(self, value: object) -> str:
        """Write a value of this option in the form of a file; ``unset`` if it has no written form."""
        return self.type.absent if value is None else self.type.write(value)

    def write_default(self) -> str:
        """Write the default."""
        return self.write(self.default)


def option(
    name: str,
    type_: OptionType[_T],
    default: _T,
    doc: str,
    *,
    scopes: tuple[str, ...] = EVERYWHERE,
    idle_in: tuple[str, ...] = (),
    reloadable: bool = True,
) -> _T:
    """Declare a field of :class:`Settings`."""
    row = Option(name, type_, default, scopes, idle_in, reloadable, doc)
    return attrs.field(default=default, metadata={"option": row})
