"""Run within the image while it is built: the bundle must prove itself with the libraries that were left.

Loads whatever the service can come to need, too, so that Python keeps it compiled in PYTHONPYCACHEPREFIX.
"""

import os
import subprocess
import sys
from importlib import import_module
from io import BytesIO
from pathlib import Path

from PIL import Image

from model.bundle import BundleError
from model.canonical.images import decode
from model.predictor import Predictor

TIME = 315532800  # as in the Dockerfile: 1980, where the times of wheels begin
LATER = (
    "psycopg",
    "redis.asyncio",
    "service.app",
    "service.health",
    "journal.database",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn.loops.uvloop",
    "uvicorn.supervisors.multiprocess",
    "limits.aio.storage.redis",
)


def main(bundle: Path, layers: Path) -> None:
    """Gives the compiled modules the time of all other files, and ours a layer of their own: they change most.

    Exits with a line where the bundle fails.
    """
    try:
        manifest = Predictor.load(bundle).manifest
    except BundleError as error:
        sys.exit(f"prove: {error}")
    for name in LATER:
        import_module(name)
    for kind in ("GIF", "TIFF", "BMP", "WEBP", "JPEG"):
        _read(kind)
    journal = {**os.environ, "NEOCOG_JOURNAL": "sqlite:////tmp/journal.db"}
    subprocess.run([sys.executable, "-m", "journal.migrations"], env=journal, check=True)
    ours = Path("app/compiled/app/code")
    (layers / "compiled-code" / ours).parent.mkdir(parents=True)
    (layers / "compiled" / ours).rename(layers / "compiled-code" / ours)
    for path in layers.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (TIME, TIME))
    print(f"prove: bundle {manifest.version} gives its golden answers")


def _read(kind: str) -> None:
    picture = BytesIO()
    Image.new("L", (40, 30), 200).save(picture, kind)
    assert decode(picture.getvalue()).size == (40, 30)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
