"""GET /: a page to draw a digit on. The files of `web/` are served from memory."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from service.edge.routing import open_to_all

router = APIRouter(include_in_schema=False)

_WEB: Final = Path(__file__).parents[1] / "web"
# The page runs its own script and talks to its own origin, and to nothing else. Nobody may frame it.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_KINDS: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_FILES: Final = {path.name: path.read_bytes() for path in _WEB.iterdir()}


def file(name: str) -> Response:
    """A file of `web/`."""
    return Response(_FILES[name], headers=_HEADERS, media_type=_KINDS[Path(name).suffix])


@router.get("/")
@open_to_all
async def index() -> Response:
    return file("index.html")


@router.get("/page.js")
@open_to_all
async def script() -> Response:
    return file("page.js")


@router.get("/page.css")
@open_to_all
async def style() -> Response:
    return file("page.css")
