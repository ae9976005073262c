"""What was seen over time: a bounded number of points, and the times at which epochs began."""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from model.epochs import kept

POINTS: Final = 200  # of a curve, at most

P = TypeVar("P")


class Curve(Generic[P]):
    """At most `POINTS` of the points that were offered: each, later every second, every fourth, and so on."""

    def __init__(self, offered: int = 0, stride: int = 1, points: list[P] | None = None) -> None:
        self.offered, self.stride, self.points = offered, stride, points or []

    @property
    def due(self) -> bool:
        """Whether the next point is kept. One that is not need not be calculated: `skip` it."""
        return (self.offered + 1) % self.stride == 0

    def skip(self) -> None:
        self.offered += 1

    def add(self, point: P) -> None:
        self.offered += 1
        self.points.append(point)
        if len(self.points) > POINTS:
            self.stride *= 2
            self.points = self.points[1::2]  # the points with numbers 2, 4, 6 … times the old stride


class Beginnings:
    """When each epoch began that `model.epochs` may name."""

    def __init__(self, times: Mapping[int, float] | None = None) -> None:
        self.times = dict(times or {})

    def note(self, epoch: int, time: float) -> None:
        """Keeps the time of the first value of an epoch. Epochs come in order."""
        if epoch in self.times:
            return
        self.times[epoch] = time
        first = next(iter(self.times))
        self.times = {one: at for one, at in self.times.items() if one == first or kept(epoch, one) == one}

    def of(self, epoch: int) -> float:
        """The time at which `epoch` began, or the next earlier one that is known."""
        return self.times[max(one for one in self.times if one <= epoch)]
