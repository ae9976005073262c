"""A tiny vision transformer (2020): without convolution or pooling, it must learn positions."""

from typing import Final

import torch
from torch import Tensor, nn

from model.labels import DIGITS

PATCH: Final = 7  # pixels, so there are 16 patches; a side of 4 gives 49 patches and takes three times as long


class Block(nn.Module):
    """Attention, then two linear layers for each token. Both normalise their input and add their output to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normal = self.before_attention(tokens)
        tokens = tokens + self.attention(normal, normal, normal, need_weights=False)[0]
        return tokens + self.mlp(self.before_mlp(tokens))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """n x 1 x 28 x 28 in 0..1 -> n x classes logits. About 140,000 weights.

    Dosovitskiy et al.: An image is worth 16x16 words (2020). As in the paper: linear patches, learned positions, a
    class token, pre-norm blocks. Not as in the paper: no dropout, and hidden layers are twice as wide as a token, not
    four times.
    """

    def __init__(self, classes: int = len(DIGITS), width: int = 64, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        tokens = (28 // PATCH) ** 2
        self.embed = nn.Conv2d(1, width, PATCH, stride=PATCH)  # a linear layer on each patch
        self.digit = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 1 + tokens, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).mT  # n x 16 x width
        tokens = torch.cat([self.digit.expand(len(images), -1, -1), patches], dim=1) + self.position  # n x 17 x width
        logits: Tensor = self.head(self.blocks(tokens)[:, 0])
        return logits
