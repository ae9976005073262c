"""LeNet-5: convolution and subsampling trained end to end (1998)."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.labels import DIGITS

# The maps of S2 (6) that each map of C3 (16) sees: table I of the paper.
SEEN: Final = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    tuple(range(6)),
)


class Squash(nn.Module):
    """1.7159 tanh(2x/3), which maps 1 to 1 and -1 to -1 (appendix A of the paper)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """Halves the side: the mean of every 2x2 pixels, times a weight, plus a bias. Each map learns its own two."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(maps, 1, 1))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2) * self.weight + self.bias


class PartlyConnected(nn.Conv2d):
    """The 5x5 convolution C3, in which map i sees only the maps `SEEN[i]`. This breaks symmetry and saves weights."""

    def __init__(self) -> None:
        super().__init__(6, len(SEEN), 5)
        seen = torch.tensor([[j in row for j in range(6)] for row in SEEN])
        self.seen: Tensor  # 16 x 6 x 1 x 1, 1 where a map is seen
        self.register_buffer("seen", seen[:, :, None, None].float(), persistent=False)
        with torch.no_grad():  # scales the initial weights of each map to its own number of inputs
            self.weight *= (6 / self.seen.sum(dim=1, keepdim=True)).sqrt() * self.seen

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.seen, self.bias)


class LeNet5(nn.Module):
    """n x 1 x 28 x 28 in 0..1 -> n x classes logits. 61,000 weights for 10 classes.

    LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition (1998), figure 2. The last
    layer is linear; the paper's last layer measures distances to pictures of the digits drawn by hand.
    """

    def __init__(self, classes: int = len(DIGITS)) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), Squash(),  # C1: 28
            Subsampling(6), Squash(),  # S2: 28 -> 14
            PartlyConnected(), Squash(),  # C3: 14 -> 10
            Subsampling(16), Squash(),  # S4: 10 -> 5
            nn.Conv2d(16, 120, 5), Squash(),  # C5: 5 -> 1
            nn.Flatten(), nn.Linear(120, 84), Squash(),  # F6
            nn.Linear(84, classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images * 1.275 - 0.1)  # paper -0.1, ink 1.175: mean near 0, variance near 1
        return logits
