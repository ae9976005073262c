"""MLflow tracking that never stops a run: every event is written to `runs/` first and sent from there.

`outbox` records a run and decides what to send, `delivery` makes the MLflow call of each event, `registry` holds the
model versions and their aliases, `server` connects to the tracking server. `python -m pipelines.tracking` sends what is
still unsent.
"""

from pipelines.tracking.outbox import Run, waiting
from pipelines.tracking.registry import champion
from pipelines.tracking.server import NAME, Unreachable

__all__ = ["NAME", "Run", "Unreachable", "champion", "waiting"]
