"""Run inside the cluster by `drill.py`, in the service's own image: asks at a steady rate, and counts what failed.

Half of the requests on new connections, half on kept-alive ones, as browsers and proxies do. None that fails is tried
again. Ends at SIGTERM, or after SECONDS; prints one line of JSON. Only the standard library: the image has no more.
"""

import http.client
import json
import os
import signal
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Final

THREADS: Final = 10  # of each kind
TIMEOUT: Final = 10

done = threading.Event()
counted: Counter[str] = Counter()
slowest = [0.0]
lock = threading.Lock()


def ask(connection: http.client.HTTPConnection, picture: bytes, digit: int) -> str:
    """`ok`, or what went wrong."""
    try:
        connection.request("POST", "/predict", picture, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        return type(error).__name__
    if answer.status != 200:
        return f"HTTP {answer.status}"
    return "ok" if said["digit"] == digit else "another digit"


def client(kept: bool, where: str, every: float, picture: bytes, digit: int) -> None:  # noqa: FBT001
    connection = http.client.HTTPConnection(where, timeout=TIMEOUT)
    at = time.monotonic()
    while not done.is_set():
        begun = time.monotonic()
        outcome = ask(connection, picture, digit)
        took = time.monotonic() - begun
        with lock:
            counted[("kept " if kept else "new ") + outcome] += 1
            slowest[0] = max(slowest[0], took)
        if not kept:
            connection.close()
        at += every
        done.wait(max(0.0, at - time.monotonic()))
    connection.close()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    where = urllib.parse.urlsplit(os.environ["URL"]).netloc
    every = 2 * THREADS / float(os.environ["RATE"])
    picture = Path(os.environ["PICTURE"])
    digit = int(picture.stem[-1])
    threads = [
        threading.Thread(target=client, args=(kept, where, every, picture.read_bytes(), digit))
        for kept in (False, True)
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
        done.wait(every / len(threads))
    done.wait(float(os.environ["SECONDS"]))
    done.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"counts": counted, "slowest": round(slowest[0], 3)}), flush=True)


if __name__ == "__main__":
    main()
