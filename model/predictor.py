"""Predicts with a verified bundle and ONNX Runtime. Neither this module nor its imports use torch."""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from model import bundle
from model.bundle import FEATURES, GOLDEN, MODEL, BundleError, Golden, Manifest
from model.canonical import VERSION, Pixels, canonical
from model.canonical.images import decode

GOLDEN_PIXELS: Final = 1_000_000  # of an encoded golden picture: /readyz decodes one each time, on the event loop
TOLERANCE: Final = 1e-4  # of probability: other processors round float32 differently, but another model differs more
_ASKED: Final = ort.RunOptions()  # without this, every call computes both outputs
_ASKED.only_execute_path_to_fetches = True


class Prediction(NamedTuple):
    """The model's answer for one picture."""

    digit: int
    confidence: np.float32  # the probability of `digit`
    probabilities: NDArray[np.float32]  # of 0 to 9, sum 1
    abstained: bool  # the confidence is below the bundle's threshold: a person should decide


class Predictor:
    """Predicts with one bundle. `load` makes it, and raises `BundleError` unless the bundle passes its checks."""

    def __init__(self, session: ort.InferenceSession, manifest: Manifest, reference: bytes) -> None:
        self._session = session
        self.manifest = manifest
        self.reference = reference  # the bytes of reference.npz, for `model.drift.Reference.parse`
        self.golden: Golden | None = None

    @classmethod
    def load(cls, folder: Path, *, prove: bool = True) -> "Predictor":
        """Reads the bundle, checks its hashes and the version of `canonical`, and compares the golden answers.

        Without `prove` only the hashes are checked. The gate needs this to compare with a champion of an older
        `canonical`, which the service no longer serves.
        """
        manifest, model, questions, reference = bundle.load(folder)
        if prove and manifest.canonical_version != VERSION:
            raise BundleError(
                f"{folder}: the model was trained on canonical version {manifest.canonical_version},"
                f" this code makes version {VERSION}"
            )
        predictor = cls(_session(model, folder / MODEL), manifest, reference)
        if not prove:
            return predictor
        try:
            golden = Golden.parse(questions)
            predictor._prove(golden, folder)
            predictor.golden = golden
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(f"{folder}: the golden questions cannot be asked: {error}") from error
        return predictor

    def prove_again(self) -> None:
        """Checks the first golden answer again, in 0.3 ms. Raises `BundleError` if it has changed."""
        if (golden := self.golden) is not None:
            first = Golden(encoded=golden.encoded[:1], pixels=golden.pixels[:1], prob=golden.prob[:1])
            self._prove(first, Path(self.manifest.version))

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """n x 28 x 28 uint8 from `canonical` -> n x 10, calibrated."""
        return self._run("prob", pixels)

    def features(self, pixels: Pixels) -> NDArray[np.float32]:
        """n x 28 x 28 uint8 from `canonical` -> n x 4, each with mean 0 and variance 1 on the validation images.

        Raises `BundleError` if the model is from before there were features. It is served all the same.
        """
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        if shapes.get("features", [])[1:] != [FEATURES]:
            raise BundleError(
                f"model {self.manifest.version} has no output `features` of {FEATURES} columns; export it again"
            )
        return self._run("features", pixels)

    def _run(self, output: str, pixels: Pixels) -> NDArray[np.float32]:
        images = pixels[:, None].astype(np.float32) / np.float32(255)
        found: NDArray[np.float32] = self._session.run([output], {"image": images}, _ASKED)[0]
        return found

    def predict(self, pixels: Pixels) -> list[Prediction]:
        """n x 28 x 28 uint8 from `canonical` -> n predictions."""
        prob = self.probabilities(pixels)
        digits = prob.argmax(axis=1)
        confidence = prob[np.arange(len(prob)), digits]
        abstained = confidence < self.manifest.abstain_below
        return list(map(Prediction, digits.tolist(), confidence, prob, abstained.tolist()))

    def _prove(self, golden: Golden, folder: Path) -> None:
        pixels = np.stack([canonical(decode(data, max_pixels=GOLDEN_PIXELS)) for data in golden.encoded])
        if not np.array_equal(pixels, golden.pixels):
            raise BundleError(f"{folder}: canonical no longer gives the golden images the pixels they had at export")
        prob = self.probabilities(pixels)
        if prob.shape[1] != len(self.manifest.labels):
            raise BundleError(f"{folder}: {prob.shape[1]} probabilities for {len(self.manifest.labels)} labels")
        if golden.prob.shape != prob.shape:
            raise BundleError(f"{folder}: {GOLDEN} has {golden.prob.shape[1]} probabilities for {prob.shape[1]} labels")
        difference = float(np.abs(prob - golden.prob).max())
        if not difference <= TOLERANCE:
            raise BundleError(f"{folder}: the golden answers differ by {difference:.2g}, allowed is {TOLERANCE:.0e}")


def _session(model: bytes, path: Path) -> ort.InferenceSession:
    """`model` are the bytes of the file at `path`. From bytes, ONNX Runtime refuses weights that are in other files.

    One thread that does not spin. For a model this small, a second thread costs more than it gains. Spinning would
    use up a pod's CPU limit."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: nobody needs its warning about the number of CPUs
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises a dozen classes of its own, none with a public base
        raise BundleError(f"{path} is not a model ONNX Runtime loads: {error}") from None
