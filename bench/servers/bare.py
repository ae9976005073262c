"""No framework and no features: the floor, Pillow and one inference in the event loop."""

import json

from model import probabilities


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    found = probabilities(body)
    answer = json.dumps({"digit": int(found.argmax()), "probabilities": found.tolist()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
