"""What the served model tells apart, as the API names it. The bundle's manifest is the one source."""

from collections.abc import Sequence
from typing import Any, Final

from model.labels import are_digits


class Labels:
    """The classes of a bundle, in the order of its probabilities.

    Where all of them are single digits, the API speaks of numbers: `{"digit": 7}`. Else it speaks of text:
    `{"label": "B"}`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names: Final = tuple(names)
        digits = are_digits(names)
        self.field: Final = "digit" if digits else "label"  # under which an answer holds it
        self.values: Final[tuple[int | str, ...]] = tuple(map(int, names)) if digits else self.names

    def place(self, value: int | str) -> int:
        """Where `value` stands among the probabilities. Raises `ValueError` where the model has no such label."""
        if type(value) is not type(self.values[0]) or value not in self.values:
            allowed = ", ".join(map(repr, self.values))
            raise ValueError(f"{value!r} is not a label of the served model, allowed are {allowed}")
        return self.values.index(value)

    def schema(self) -> dict[str, Any]:
        """One of them, as JSON Schema."""
        return {"type": "integer" if self.field == "digit" else "string", "enum": list(self.values)}
