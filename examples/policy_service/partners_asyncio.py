"""Refuse mail from clients without a valid certificate: a decider in plain asyncio, with the `websockets` package.

pip install websockets
python partners_asyncio.py ws://127.0.0.1:8025/ token [shadow]
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

url, token_file, *rest = sys.argv[1:]
token = Path(token_file).read_text().strip()


def decide(variables: dict[str, str]) -> dict[str, Any]:
    if variables.get("tls_client_verified") == "yes":
        return {"decision": "continue"}
    if variables.get("tls") != "on":
        return {"decision": "reject", "code": 530, "enhanced": "5.7.0", "text": "Must issue a STARTTLS command first"}
    text = f"A valid client certificate is required: {variables['tls_client_verify_error']}"
    return {"decision": "reject", "code": 550, "enhanced": "5.7.1", "text": text}


async def main() -> None:
    headers = {"Authorization": f"Bearer {token}"}
    # The iterator connects again whenever the connection is lost.
    async for socket in connect(url, subprotocols=[Subprotocol("policy.v1.triosmtp")], additional_headers=headers):
        params = {
            "name": "partners-asyncio",
            "group": "partners",
            "role": "decider",
            "phases": ["mailfrom"],
            "variables": ["tls*"],
            "mode": "shadow" if rest == ["shadow"] else "enforce",
            "notifications": [],
        }
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}))
        async for text in socket:
            message = json.loads(text)
            if message.get("id") == 1:
                print("ready" if "result" in message else message["error"], flush=True)
            elif message.get("method") == "validate_mailfrom":
                result = decide(message["params"]["variables"])
                await socket.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))


asyncio.run(main())
