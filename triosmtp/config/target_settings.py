"""The settings of one target: its addresses, and the options of its Delivery scope, or their defaults."""

from functools import cached_property

from attrs import frozen

from triosmtp.config.options import Settings
from triosmtp.config.options.delivery_options import TLSMode
from triosmtp.config.types.target_address import TargetAddress

__all__ = ["TargetSettings"]


@frozen(slots=False)
class TargetSettings:
    """The settings of one target.

    ``settings`` has only options of the Delivery scope; those that it does not set have their defaults, as all have for
    a short form.  ``settings.places`` says where each was set.
    """

    name: str
    """The name of the Delivery; of a short form, its address."""
    addresses: tuple[TargetAddress, ...]
    """Addresses of one scheme, in the order in which they are tried."""
    settings: Settings

    @property
    def scheme(self) -> str:
        """The scheme of the addresses."""
        return self.addresses[0].scheme

    @property
    def is_short(self) -> bool:
        """Whether no Delivery scope is behind it."""
        return ":" in self.name

    @cached_property
    def is_local(self) -> bool:
        """Whether all addresses are on this host."""
        return all(address.is_local for address in self.addresses)

    def tls_mode(self, address: TargetAddress) -> TLSMode:
        """Return how TLS is used for an address: ``required`` by default, ``no`` for loopback and Unix sockets.

        It is ``required`` for ``smtps`` and ``https`` in any case.
        """
        if address.scheme in {"smtps", "https"}:
            return "required"
        return self.settings.tls or ("no" if address.is_local else "required")

    def tls_name(self, address: TargetAddress) -> str:
        """Return the name that the certificate of the target at an address must have."""
        return self.settings.tls_name or address.host
