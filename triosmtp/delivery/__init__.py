"""Deliveries: the destinations of accepted mail.

``delivery.py`` is their base class.  ``maildir.py``, ``function.py`` and ``discard.py`` are deliveries;
``delivery_loader.py`` makes the one that Deliver_To names.  A new scheme is also added to
``config/types/policy_types.py``, which checks the option without an import of this package.
"""

from triosmtp.delivery.delivery import Delivery, DeliveryError
from triosmtp.delivery.delivery_loader import load_delivery, parse_delivery
from triosmtp.delivery.discard import Discard
from triosmtp.delivery.function import FunctionDelivery
from triosmtp.delivery.maildir import Maildir

__all__ = [
    "Delivery", "DeliveryError", "Discard", "FunctionDelivery", "Maildir", "load_delivery", "parse_delivery",
]  # fmt: skip
