"""Any picture of a digit -> the 28x28 the network sees: the one preprocessing contract.

numpy and Pillow only. `images` opens a picture, `paper` removes what is not ink, `parts` finds the digit among the
marks, `convert` puts them together. dvc.yaml depends on this folder as a whole.
"""

from model.canonical.convert import CENTRE, LONG_SIDE, SIDE, VERSION, Pixels, canonical, canonical_batch, grey

__all__ = ["CENTRE", "LONG_SIDE", "SIDE", "VERSION", "Pixels", "canonical", "canonical_batch", "grey"]
