"""A configuration with everything that was made from it: the unit that a reload replaces."""

from collections.abc import Mapping

import trio
from attrs import define, field

from triosmtp.config import Config, Listen, TCPAddress
from triosmtp.server.policy_endpoint import PolicyEndpoint
from triosmtp.server.profile import Profiles
from triosmtp.tls import ServerContext, TLSSettings

__all__ = ["Generation"]


@define(slots=True, eq=False)
class Generation:
    """A configuration with everything that was made from it.

    The generation in force is replaced as a whole.  A session keeps the one that it started with.
    """

    config: Config
    profiles: Profiles
    tls: tuple[TLSSettings, ...]
    """The settings of every TLS context that its connections can need."""
    policy_endpoints: Mapping[object, PolicyEndpoint] = field(factory=dict)
    """The requirements of each Listen for policy clients, by the key of the Listen."""
    sessions: int = 0
    """Sessions now."""
    last_contexts: Mapping[TLSSettings, ServerContext] = field(factory=dict)
    """The TLS contexts that were in force when another generation replaced this one."""
    _listens: Mapping[object, Listen] = field(init=False)
    _unused: trio.Event | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._listens = {listen.key: listen for listen in self.config.listens}

    def find_listen(self, key: object) -> Listen | None:
        """Return the Listen with this key, or the wildcard that accepts its connections now."""
        listen = self._listens.get(key)
        if listen is None and isinstance(key, TCPAddress):
            return self.config.find_listen_for(key)
        return listen

    def release(self) -> None:
        """Count a session out."""
        self.sessions -= 1
        if self._unused is not None and not self.sessions:
            self._unused.set()

    async def close_when_unused(self) -> None:
        """Close the deliveries when the last session has ended.  Call it when another generation is in force."""
        try:
            if self.sessions:
                self._unused = trio.Event()
                await self._unused.wait()
        finally:
            await self.profiles.aclose()
