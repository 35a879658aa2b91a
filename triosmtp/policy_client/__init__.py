"""A client of the policy service, for Trio programs: decide about sessions, and observe them, from another process.

An example::

    client = PolicyClient("ws://127.0.0.1:8025/", token=token, name="partners", group="partners", variables=["tls*"])

    @client.on("mailfrom")
    async def check(request: PolicyRequest) -> None:
        if not request.tls.on:
            raise Reject(530, "5.7.0", "Must issue a STARTTLS command first")
        if not request.tls.verified:
            raise Reject(550, "5.7.1", "A valid client certificate is required", reason=request.tls.verify_error)

    trio.run(client.run)

It connects again whenever the connection is lost, after at most 0.05 s at first and 2 s later.

``websocket_client.py`` is the client and its connection, ``reconnect_delay.py`` says when it connects again, and
``policy_request.py`` has the arguments and results of its handlers.
"""

from triosmtp.policy_client.websocket_client import (
    DISCARD,
    DONE,
    Decision,
    MessageBody,
    Notification,
    PolicyClient,
    PolicyClientError,
    PolicyRequest,
    PolicyRequestError,
    TLSVariables,
)

__all__ = [
    "DISCARD",
    "DONE",
    "Decision",
    "MessageBody",
    "Notification",
    "PolicyClient",
    "PolicyClientError",
    "PolicyRequest",
    "PolicyRequestError",
    "TLSVariables",
]
