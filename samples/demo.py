"""Starts the service on a free port, sends it the pictures in samples/, prints its answers, and stops it.

python -m samples.demo        (`make demo` runs the pipeline first)
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

SAMPLES = Path("samples")


def main() -> None:
    service = subprocess.Popen(
        [sys.executable, "-m", "service"],
        env={**os.environ, "NEOCOG_HOST": "127.0.0.1", "NEOCOG_PORT": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = _address(service)
        answers = {path: _ask(address, path) for path in sorted(SAMPLES.glob("*.png"))}
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=10)
    print(f"\n  {'image':<28}{'digit':>6}{'confidence':>12}   the same request, after `make serve`")
    for path, answer in answers.items():
        error = "" if path.stem.endswith(str(answer["digit"])) else f"  <- the picture shows a {path.stem[-1]}"
        request = f"curl -F image=@{path} localhost:8000/predict"
        print(f"  {path!s:<28}{answer['digit']:>6}{answer['confidence']:>12.1%}   {request}{error}")


def _address(service: subprocess.Popen[str]) -> str:
    """The address in the service's log. A thread reads the rest of the log: a full pipe would block the service."""
    log = []
    assert service.stderr is not None
    for line in service.stderr:
        log.append(line)
        if found := re.search(r"running on (http://[\d.:]+)", line):
            threading.Thread(target=service.stderr.read, daemon=True).start()
            return found[1]
    sys.exit("demo: the service did not start:\n" + "".join(log))


def _ask(address: str, path: Path) -> dict[str, float]:
    request = urllib.request.Request(f"{address}/predict", path.read_bytes(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, float] = json.load(response)
    return answer


if __name__ == "__main__":
    main()
