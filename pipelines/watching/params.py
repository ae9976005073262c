"""The numbers of params.yaml that watching uses."""

from typing import Literal

from pydantic import Field

from pipelines import stage


class WatchParams(stage.Params, section="watch"):
    """When an alarm rings, and what is counted."""

    alpha: float = Field(gt=0, lt=0.5)
    epsilon: float = Field(ge=0, lt=1)
    baseline: int = Field(ge=0, le=5000)
    per_session: int = Field(ge=1)
    epoch: int = Field(ge=1)
    label_epoch: int = Field(ge=1)
    labels: Literal["audit", "all"]
    settle: float = Field(ge=0)
    late: float = Field(ge=0)
    chunk: int = Field(ge=1, le=100_000)
    queue_days: float = Field(gt=0)
    recent: int = Field(ge=1, le=10_000)
