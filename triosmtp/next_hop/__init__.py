"""Next hops: mail servers that accepted mail is passed on to, by SMTP or LMTP.

The protocol without I/O is :class:`triosmtp.smtp.ClientConnection`.  The modules of this package::

    hop_settings.py       the settings of one next hop as values
    hop_error.py          the errors that are no answer about sender, recipient or message
    hop_answer.py         which answers of a hop the client receives, and in which form
    hop_connection.py     one connection: commands and replies with their time-outs, the message
    hop_connector.py      addresses → a connection that is ready: TCP or Unix socket, TLS, EHLO, AUTH
    hop_pool.py           the connections of one hop: bounds, shares, reuse
    hop_parameters.py     the parameters of MAIL and RCPT for a hop, and what it lacks for a message
    hop_client.py         XCLIENT and XFORWARD, which announce the client to a hop
    hop.py                the state that all transactions of a hop share
    hop_transaction.py    one message at the hop: asked at RCPT, delivered after the body
    next_hop.py           the delivery
    hop_factory.py        the options of a Delivery → the delivery
"""

from triosmtp.next_hop.hop_settings import HopAddress, HopSettings
from triosmtp.next_hop.next_hop import NextHop

__all__ = ["HopAddress", "HopSettings", "NextHop"]
