"""The classifier that is served: four convolutions and a linear layer."""

from torch import Tensor, nn

from model.labels import DIGITS


def _conv(channels: int, maps: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(maps),
        nn.ReLU(inplace=True),
    ]


class CNN(nn.Module):
    """n x 1 x 28 x 28 float32 in 0..1 -> n x classes logits.

    The first convolution halves the side. Otherwise most of the time would be spent at 28x28, on detail that the next
    layers do not use.
    """

    def __init__(self, width: int, classes: int = len(DIGITS)) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv(1, width, kernel=5, stride=2),  # 28 -> 14
            *_conv(width, 2 * width, kernel=3, stride=1),  # 14
            *_conv(2 * width, 4 * width, kernel=3, stride=2),  # 14 -> 7
            *_conv(4 * width, 6 * width, kernel=3, stride=2),  # 7 -> 4
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * width * 4 * 4, classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())
