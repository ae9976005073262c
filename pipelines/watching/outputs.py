"""Where the watch's words go: files, and an HTTP port."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipelines import stage
from pipelines.watching.metrics import Metrics

SUMMARY: Final = "watch.json"
REPORT: Final = "report.html"
METRICS: Final = "metrics.prom"  # for node_exporter's textfile collector


def metrics_text(metrics: Metrics) -> bytes:
    return generate_latest(metrics.registry)


def write(path: Path, content: bytes) -> None:
    with stage.writing(path) as half:
        half.write_bytes(content)


class Server:
    """Serves /metrics, the report at / and the summary at /watch.json, from `folder`."""

    def __init__(self, host: str, port: int, folder: Path, metrics: Metrics) -> None:
        """Raises `StageError` where the port cannot be had."""
        files = {"/": (REPORT, "text/html; charset=utf-8"), f"/{SUMMARY}": (SUMMARY, "application/json")}

        def answer(path: str) -> tuple[bytes, str] | None:
            if path == "/metrics":
                return metrics_text(metrics), CONTENT_TYPE_LATEST
            try:
                name, kind = files[path]
                return (folder / name).read_bytes(), kind
            except (KeyError, FileNotFoundError):
                return None

        try:
            self._server = ThreadingHTTPServer((host, port), _handler(answer))
        except OSError as error:
            raise stage.StageError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(answer: Callable[[str], tuple[bytes, str] | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds that a client may take for its request

        def do_GET(self) -> None:
            found = answer(self.path.partition("?")[0])
            if found is None:
                self.send_error(404)
                return
            body, kind = found
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            # The report has its own styles and pictures, and nothing else.
            self.send_header("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'unsafe-inline'")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing: Prometheus asks every few seconds."""

    return Handler
