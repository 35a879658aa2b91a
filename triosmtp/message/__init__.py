"""A message: its envelope, its spooled body, and the header fields that the server adds.

``message.py`` has the values that policies and deliveries get, ``spool.py`` keeps the body in memory or in a file,
``trace.py`` makes Received and other header fields.
"""

from triosmtp.message.message import Envelope, Message, Recipient

__all__ = ["Envelope", "Message", "Recipient"]
