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

It connects again whenever the connection is lost, after 0 to 0.5 s at first and up to 30 s later.

``websocket_client.py`` is the client and its connection, ``policy_request.py`` the arguments and results of its
handlers.
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
