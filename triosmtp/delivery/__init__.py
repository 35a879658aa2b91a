"""Deliveries: the targets of accepted mail.

``delivery.py`` is their base class.  ``maildir.py``, ``function.py`` and ``discard.py`` are deliveries;
``delivery_loader.py`` makes the one that a short form of Deliver_To names.  A target that is asked about recipients at
RCPT returns a transaction (``delivery_transaction.py``), and each recipient has a result (``recipient_result.py``).
``answer_lines.py`` has the answers of targets as the log shows them.
``remembered_recipients.py`` keeps the recipients that have a message which the client must send again for others.
``target_context.py`` is what a target gets from the server, ``target_health.py`` whether it is available, and
``target_watch.py`` finds out when it is available again;
``secret_file.py`` a file with one secret.

A new scheme is also added to ``config/types/target_address.py`` and to ``server/target_factories.py``.
"""

from typing import TYPE_CHECKING

from triosmtp.lazy_import import lazy_names

if TYPE_CHECKING:
    from triosmtp.delivery.answer_lines import answer_lines
    from triosmtp.delivery.delivery import Delivery, DeliveryError, is_probed
    from triosmtp.delivery.delivery_loader import load_delivery, parse_delivery
    from triosmtp.delivery.delivery_transaction import DeliveryTransaction
    from triosmtp.delivery.discard import Discard
    from triosmtp.delivery.function import FunctionDelivery
    from triosmtp.delivery.maildir import Maildir
    from triosmtp.delivery.recipient_result import DELIVERED, RecipientKey, RecipientResult
    from triosmtp.delivery.secret_file import SecretFile, SecretFileError
    from triosmtp.delivery.target_context import EventSink, TargetContext
    from triosmtp.delivery.target_health import TargetHealth, TargetState, ended_state, merge_states
    from triosmtp.delivery.target_watch import watch_target

__all__ = [
    "DELIVERED", "Delivery", "DeliveryError", "DeliveryTransaction", "Discard", "EventSink", "FunctionDelivery",
    "Maildir", "RecipientKey", "RecipientResult", "SecretFile", "SecretFileError",
    "TargetContext", "TargetHealth", "TargetState", "answer_lines", "ended_state", "is_probed", "load_delivery",
    "merge_states", "parse_delivery", "watch_target",
]  # fmt: skip

_MODULES = {
    "triosmtp.delivery.answer_lines": ("answer_lines",),
    "triosmtp.delivery.delivery": ("Delivery", "DeliveryError", "is_probed"),
    "triosmtp.delivery.delivery_loader": ("load_delivery", "parse_delivery"),
    "triosmtp.delivery.delivery_transaction": ("DeliveryTransaction",),
    "triosmtp.delivery.discard": ("Discard",),
    "triosmtp.delivery.function": ("FunctionDelivery",),
    "triosmtp.delivery.maildir": ("Maildir",),
    "triosmtp.delivery.recipient_result": ("DELIVERED", "RecipientKey", "RecipientResult"),
    "triosmtp.delivery.secret_file": ("SecretFile", "SecretFileError"),
    "triosmtp.delivery.target_context": ("EventSink", "TargetContext"),
    "triosmtp.delivery.target_health": ("TargetHealth", "TargetState", "ended_state", "merge_states"),
    "triosmtp.delivery.target_watch": ("watch_target",),
}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = lazy_names(__name__, _MODULES)
