"""`Source` is in `pipelines.artefacts` now. Delete this file when cluster/verify.py imports it from there."""

from pipelines.artefacts import Source

__all__ = ["Source"]
