"""Delivery by HTTP: each message is one POST to an application (``https://host/path`` in Deliver_To).

The modules::

    http_delivery.py        the delivery: a request, and what becomes of each answer
    request_pool.py         the connections: each has a slot of the target
    http_factory.py         the delivery of a target, from its options
    form_body.py            the body of a request: a form of two parts, streamed from the spool
    webhook_signature.py    the signature of a request, as Standard Webhooks say

Nothing here is imported unless a target is reached by HTTP.
"""
