"""A message: its envelope, its spooled body, and the header fields that the server adds.

``message.py`` has the values that policies and deliveries get, ``spool.py`` keeps the body in memory or in a file,
``trace.py`` makes Received and other header fields.  ``header_edits.py`` changes a message as a filter demands.
``envelope_document.py`` is the envelope as JSON, for other systems.
"""

from typing import TYPE_CHECKING

from triosmtp.lazy_import import lazy_names

if TYPE_CHECKING:
    from triosmtp.message.message import Envelope, Message, Origin, Recipient

__all__ = ["Envelope", "Message", "Origin", "Recipient"]

_MODULES = {
    "triosmtp.message.message": ("Envelope", "Message", "Origin", "Recipient"),
}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = lazy_names(__name__, _MODULES)
