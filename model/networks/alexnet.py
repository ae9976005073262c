"""A small AlexNet (2012), for images of one digit."""

from torch import Tensor, nn

from model.labels import DIGITS


class AlexNet(nn.Module):
    """n x 1 x 28 x 28 in 0..1 -> n x classes logits. 117,898 weights for 10 classes; the original has 60 million.

    Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks (2012). As in the
    paper: ReLUs, local response normalisation, overlapping pooling windows (3x3, stride 2), three convolutions in a
    row, and dropout before both hidden linear layers. The first kernel is 5x5 at stride 1 instead of 11x11 at stride 4,
    because the images are 8 times smaller. The initial weights are those of He et al. 2015: with torch's default, the
    network learns nothing during the first 10,000 images.
    """

    def __init__(self, classes: int = len(DIGITS)) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),  # 28 -> 14
            nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            nn.Conv2d(8, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),  # 14 -> 7
            nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(),  # 7
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),  # 7 -> 3
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5), nn.Linear(24 * 3 * 3, 256), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(256, 128), nn.ReLU(),
            nn.Linear(128, classes),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits
