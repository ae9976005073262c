"""Training-time distortions, drawn anew for every image of every batch, on the device the batch is on."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Distortion:
    """The greatest distortion of each kind; every image draws its own between none and this."""

    rotation: float  # degrees, either way
    scale: float  # share, larger or smaller, each axis on its own
    shear: float  # share of the height, slanting either way
    shift: float  # pixels, either way, each axis on its own
    elastic: float  # pixels, the standard deviation of a smooth displacement
    stroke: float  # share of images whose strokes are made thicker or thinner


def distorted(images: Tensor, by: Distortion, generator: torch.Generator) -> Tensor:
    """n x 1 x 28 x 28 in 0..1, the same shape and range back. Two calls with equal generators give equal images."""
    n, _, height, width = images.shape

    def uniform(most: float, *shape: int) -> Tensor:
        return (torch.rand(n, *shape, generator=generator, device=images.device) * 2 - 1) * most

    angle, slant = uniform(math.radians(by.rotation)), uniform(by.shear)
    across, down = 1 + uniform(by.scale), 1 + uniform(by.scale)
    cos, sin = angle.cos(), angle.sin()
    move = uniform(2 * by.shift / width, 2)  # grid_sample's units: the image spans -1..1
    affine = torch.stack(
        [
            torch.stack([cos * across, (slant - sin) * across, move[:, 0]], dim=1),
            torch.stack([sin * down, (cos + slant * sin) * down, move[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(affine, [n, 1, height, width], align_corners=False)
    if by.elastic:
        coarse = torch.randn(n, 2, 5, 5, generator=generator, device=images.device) * (2 * by.elastic / width)
        grid = grid + functional.interpolate(coarse, (height, width), mode="bicubic").permute(0, 2, 3, 1)
    images = functional.grid_sample(images, grid, align_corners=False)
    return _restroked(images, by.stroke, generator) if by.stroke else images


def _restroked(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A `share` of the images with strokes about a pixel thicker or thinner: half a grey dilation or erosion."""
    draw = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
    amount = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
    thicker = functional.max_pool2d(images, 3, stride=1, padding=1)
    thinner = -functional.max_pool2d(-images, 3, stride=1, padding=1)
    target = torch.where(draw < share / 2, thicker, torch.where(draw < share, thinner, images))
    return torch.lerp(images, target, amount * 0.8).clamp(0, 1)
