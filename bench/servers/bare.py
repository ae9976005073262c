"""No framework and no features: Pillow and one inference in uvicorn's event loop."""

import json
from typing import TYPE_CHECKING

from bench.servers.inference import probabilities

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def app(scope: "Scope", receive: "Receive", send: "Send") -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    probability = probabilities(body)
    answer = json.dumps({"digit": int(probability.argmax()), "probabilities": probability.tolist()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
