"""Where accepted mail goes: one object with one async method, and the ways to make one."""

from triosmtp.delivery.discard import Discard
from triosmtp.delivery.function import FunctionDelivery
from triosmtp.delivery.interface import Delivery, DeliveryError
from triosmtp.delivery.maildir import Maildir
from triosmtp.delivery.specification import load_delivery, parse_delivery

__all__ = [
    "Delivery", "DeliveryError", "Discard", "FunctionDelivery", "Maildir", "load_delivery", "parse_delivery",
]  # fmt: skip
