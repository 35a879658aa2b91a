"""Deliveries: the targets of accepted mail.

``delivery.py`` is their base class.  ``maildir.py``, ``function.py`` and ``discard.py`` are deliveries;
``delivery_loader.py`` makes the one that a short form of Deliver_To names.  A target that is asked about recipients at
RCPT returns a transaction (``delivery_transaction.py``), and each recipient has a result (``recipient_result.py``).
``remembered_recipients.py`` keeps the recipients that have a message which the client must send again for others.
``target_context.py`` is what a target gets from the server, ``target_health.py`` whether it is available, and
``target_watch.py`` finds out when it is available again;
``secret_file.py`` a file with one secret.

A new scheme is also added to ``config/types/target_address.py`` and to ``server/target_factories.py``.
"""

from triosmtp.delivery.delivery import Delivery, DeliveryError
from triosmtp.delivery.delivery_loader import load_delivery, parse_delivery
from triosmtp.delivery.delivery_transaction import DeliveryTransaction
from triosmtp.delivery.discard import Discard
from triosmtp.delivery.function import FunctionDelivery
from triosmtp.delivery.maildir import Maildir
from triosmtp.delivery.recipient_result import DELIVERED, RecipientKey, RecipientResult
from triosmtp.delivery.secret_file import SecretFile, SecretFileError
from triosmtp.delivery.target_context import EventSink, TargetContext
from triosmtp.delivery.target_health import TargetHealth, TargetState, merge_states
from triosmtp.delivery.target_watch import is_probed, watch_target

__all__ = [
    "DELIVERED", "Delivery", "DeliveryError", "DeliveryTransaction", "Discard", "EventSink", "FunctionDelivery",
    "Maildir", "RecipientKey", "RecipientResult", "SecretFile", "SecretFileError",
    "TargetContext", "TargetHealth", "TargetState", "is_probed", "load_delivery", "merge_states", "parse_delivery",
    "watch_target",
]  # fmt: skip
