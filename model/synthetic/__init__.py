"""Digits that the project draws itself: `styles` are ways of writing, `digits` draws them, `outliers` are no digits."""

from model.synthetic.digits import CAREFUL, HAND, Labelled, Hand, Seed, draw, write, written

__all__ = ["CAREFUL", "HAND", "Labelled", "Hand", "Seed", "draw", "write", "written"]
