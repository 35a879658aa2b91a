"""Receives mail from triosmtp by HTTP, checks its signature, and stores it.

It needs Starlette and a server::

    pip install starlette uvicorn
    export WEBHOOK_SECRET="$(cat /etc/triosmtp/webhook.secret)" MAIL_FOLDER=./mail
    uvicorn --port 8080 receiver:application

In the configuration of triosmtp::

    Deliver_To = "app"
    Delivery "app" {
      Deliver_To = "http://127.0.0.1:8080/mail"
      Secret_File = "/etc/triosmtp/webhook.secret"
    }
"""

import base64
import hmac
import json
import os
import re
import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

MAX_BODY = 50 * 1024 * 1024
MAX_AGE = 300  # seconds; a request that somebody recorded is not accepted later


def is_signed(request: Request, body: bytes) -> bool:
    """Check the signature, as https://www.standardwebhooks.com says.  During a rotation there are two."""
    secret = base64.b64decode(os.environ["WEBHOOK_SECRET"].strip().removeprefix("whsec_"))
    identifier, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > MAX_AGE:
        return False
    signed = f"{identifier}.{timestamp}.".encode() + body
    right = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    given = request.headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(f"v1,{right}".encode(), each.encode()) for each in given)


def parts_of(request: Request, body: bytes) -> list[bytes]:
    """Return the contents of the parts of the form: the envelope, and the message with all its octets."""
    found = re.fullmatch(r"multipart/form-data; boundary=([0-9a-f]+)", request.headers.get("content-type", ""))
    if found is None:
        raise ValueError("not a form of triosmtp")
    parts = (b"\r\n" + body).split(f"\r\n--{found[1]}".encode())[1:-1]
    return [part.split(b"\r\n\r\n", 1)[1] for part in parts]


def store(identifier: str, envelope: bytes, message: bytes) -> None:
    """Write both to disk before the answer: 204 says that this application is responsible for the message now."""
    folder = Path(os.environ["MAIL_FOLDER"])
    for name, content in ((f"{identifier}.json", envelope), (f"{identifier}.eml", message)):
        with (folder / f".{name}").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        (folder / f".{name}").rename(folder / name)  # the message is last: if it is there, so is its envelope
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


async def receive(request: Request) -> Response:
    if int(request.headers.get("content-length", MAX_BODY + 1)) > MAX_BODY:
        return PlainTextResponse("too big", 413)  # the client of triosmtp receives 552
    body = await request.body()
    if not is_signed(request, body):
        return PlainTextResponse("wrong signature", 401)  # 451: the client tries again
    try:
        envelope, message = parts_of(request, body)
        identifier = json.loads(envelope)["id"]
    except (ValueError, KeyError, IndexError):
        return PlainTextResponse("not a message", 400)  # 554: the client gives up
    identifier = re.sub(r"[^A-Za-z0-9-]", "", request.headers["webhook-id"]) or identifier
    if not (Path(os.environ["MAIL_FOLDER"]) / f"{identifier}.eml").exists():  # else it came before
        store(identifier, envelope, message)
    return Response(status_code=204)  # 250


application = Starlette(routes=[Route("/mail", receive, methods=["POST"])])
