"""Turns any picture of a digit into the 28x28 image that the network sees: the one preprocessing contract.

It needs numpy and Pillow only. `images` opens a picture, `paper` separates ink from paper, `parts` finds the digit
among the marks, `convert` combines them. dvc.yaml depends on this folder as a whole.
"""

from model.canonical.convert import CENTRE, LONG_SIDE, SIDE, VERSION, Pixels, canonical, canonical_batch, grey

__all__ = ["CENTRE", "LONG_SIDE", "SIDE", "VERSION", "Pixels", "canonical", "canonical_batch", "grey"]
