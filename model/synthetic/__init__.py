"""Synthetic images: `styles` holds ways of writing, `digits` draws them, `outliers` makes pictures without a digit."""

from model.synthetic.digits import CAREFUL, HAND, Hand, Labelled, Seed, draw, write, written

__all__ = ["CAREFUL", "HAND", "Hand", "Labelled", "Seed", "draw", "write", "written"]
