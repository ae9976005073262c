"""Labels as people send them, without a journal."""

import numpy as np

from journal.ids import golden_id
from journal.queries import SentLabel
from journal.rows import LabelRow
from pipelines.feedback import extended
from pipelines.labelled import Feedback
from pipelines.trust import FeedbackParams
from tests.conftest import REPOSITORY

CLASSES = tuple("0123456789")
VERSION = "abcdef012345"
PARAMS = FeedbackParams.load(REPOSITORY / "params.yaml")


def picture(number):
    """Another 28 x 28 for each number."""
    return np.random.default_rng(number).integers(0, 256, (28, 28), np.uint8)


class Sender:
    """Sends labels, one after the other. Each gets the next id and the next second."""

    def __init__(self):
        self.sent, self.golden = [], []

    def __call__(self, number, label, by=None, *, role="caller", predicted=None, sure=0.9, caller=None, day=0,
                 pixels=None, classes=10, **columns):  # fmt: skip
        """`by` labels the picture `number`. The model said `predicted`, otherwise the label; it was `sure` of that."""
        place = len(self.sent) + len(self.golden) + 1
        predicted = label if predicted is None else predicted
        probabilities = np.full(classes, (1 - sure) / (classes - 1), np.float32)
        probabilities[predicted] = sure
        row = LabelRow(f"{number:032x}", label, by, role, **columns)
        self.sent.append(SentLabel(
            f"{place:032x}", 86_400.0 * day + place, row, VERSION, predicted, sure, probabilities.tobytes(), caller,
            picture(number) if pixels is None else pixels,
        ))  # fmt: skip

    def golden_pictures(self, by, right, wrong=0):
        """`by` labels golden pictures, so many of them rightly and wrongly."""
        for i in range(right + wrong):
            place = len(self.sent) + len(self.golden) + 1
            answer = i % 10 if i < right else (i + 1) % 10
            row = LabelRow(golden_id(VERSION, i % 10), answer, by, "labeller", "golden")
            self.golden.append((f"{place:032x}", row))

    def feedback(self):
        return extended(Feedback.empty(CLASSES), self.sent, self.golden, VERSION)
