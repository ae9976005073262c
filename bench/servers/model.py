"""What the two comparisons share: the champion in ONNX Runtime, one thread, without `canonical`."""

import io
import os

import numpy as np
import onnxruntime as ort
from PIL import Image

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)


def probabilities(png: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.float32) / 255
    return session.run(None, {"image": pixels[None, None]})[0][0]
