"""`python -m service.health`: exits with 0 where the service on this machine is ready. The image has no curl."""

import os
import socket
import sys


def ready(port: int, seconds: float = 2) -> bool:
    """Whether GET /readyz answers 200 in time. A plain socket: importing `http.client` takes longer."""
    try:
        with socket.create_connection(("127.0.0.1", port), seconds) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    chosen = (int(os.environ.get(f"NEOCOG_{name}", "0")) for name in ("PROBE_PORT", "PORT"))
    sys.exit(not ready(next(filter(None, chosen), 8000)))
