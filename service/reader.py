"""Reads the pictures that wait at the same moment together.

At this size numpy and ONNX Runtime cost mostly per call, so a batch is cheaper for everybody in it. No picture waits
for others: the first one asks the event loop for its next turn, and by then every request that has arrived has added
its picture. An idle service reads one picture at a time, a busy one reads batches. There is no timer to tune.
"""

import asyncio
import time
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from model.canonical import SIDE, Pixels, canonical_batch
from model.predictor import Prediction
from service import metrics
from service.bundles import Bundles

BATCH: Final = 32  # pictures read at a time; more save nothing, and the event loop gets a turn in between
TURN_PIXELS: Final = 2**15  # 32 of 28x28 fit; of pictures made canonical at a time, in 26 ms at worst


class Reading(NamedTuple):
    """A picture, read."""

    prediction: Prediction
    pixels: Pixels  # 28 x 28, what the model saw
    version: str  # of the model


class Reader:
    """`read` and `infer` return futures. Their pictures are read in the event loop's next turn."""

    def __init__(self, bundles: Bundles, loop: asyncio.AbstractEventLoop) -> None:
        self._bundles, self._loop = bundles, loop
        self._pictures: list[tuple[Image.Image, asyncio.Future[Reading]]] = []
        self._pixels: list[tuple[Pixels, asyncio.Future[Reading]]] = []
        self._asked = False
        self._decoding = 0.0

    def read(self, picture: Image.Image, decoding: float) -> asyncio.Future[Reading]:
        """Reads a picture, decoded in `decoding` seconds. The future raises `BadImage` where there is no digit."""
        self._decoding += decoding
        future: asyncio.Future[Reading] = self._loop.create_future()
        self._pictures.append((picture, future))
        self._ask()
        return future

    def infer(self, pixels: Pixels) -> asyncio.Future[Reading]:
        """Reads 28 x 28 pixels that `canonical` made."""
        future: asyncio.Future[Reading] = self._loop.create_future()
        self._pixels.append((pixels, future))
        self._ask()
        return future

    @property
    def waiting(self) -> int:
        """Pictures that are not read yet."""
        return len(self._pictures) + len(self._pixels)

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._asked = False
        count = self._fitting()
        pictures, self._pictures = self._pictures[:count], self._pictures[count:]
        ready, self._pixels = self._pixels[: BATCH - count], self._pixels[BATCH - count :]
        if self._pictures or self._pixels:
            self._ask()
        try:
            self._together(pictures, ready)
        except Exception as error:  # noqa: BLE001 - every waiting request must get an answer
            for future in (*(f for _, f in pictures), *(f for _, f in ready)):
                if not future.done():
                    future.set_exception(error)

    def _fitting(self) -> int:
        """How many of the waiting pictures one turn takes: `BATCH`, or `TURN_PIXELS`, but one at least."""
        pixels = 0
        for count, (picture, _) in enumerate(self._pictures[:BATCH]):
            pixels += picture.width * picture.height
            if pixels > TURN_PIXELS and count:
                return count
        return min(BATCH, len(self._pictures))

    def _together(
        self,
        pictures: list[tuple[Image.Image, asyncio.Future[Reading]]],
        ready: list[tuple[Pixels, asyncio.Future[Reading]]],
    ) -> None:
        stack = np.empty((0, SIDE, SIDE), np.uint8)
        futures = [future for _, future in pictures]
        if pictures:
            begun = time.perf_counter()
            stack, refused = canonical_batch([picture for picture, _ in pictures])
            if refused:
                for i, error in refused.items():
                    if not futures[i].done():
                        futures[i].set_exception(error)
                kept = [i for i in range(len(futures)) if i not in refused]
                stack, futures = stack[kept], [futures[i] for i in kept]
            metrics.stage("decode").observe(self._decoding)
            metrics.stage("canonical").observe(time.perf_counter() - begun)
            self._decoding = 0.0
        if ready:
            stack = np.concatenate([stack, np.stack([pixels for pixels, _ in ready])])
            futures += [future for _, future in ready]
        if not futures:
            return
        bundles = self._bundles
        predictor = bundles.current
        begun = time.perf_counter()
        predictions = predictor.predict(stack)
        metrics.stage("inference").observe(time.perf_counter() - begun)
        metrics.BATCH.observe(len(futures))
        version = predictor.manifest.version
        for future, prediction, pixels in zip(futures, predictions, stack, strict=True):
            if not future.done():  # the client may have gone
                future.set_result(Reading(prediction, pixels, version))
        metrics.predictions(version, bundles.labels.names, predictions)
        if bundles.shadow is not None:
            bundles.shadow.look(stack, [prediction.digit for prediction in predictions])
