"""Prepares the labels that people sent for training and for the gate. Without any, there are none to train on.

`python -m pipelines.feedback` writes data/feedback.npz, outside DVC. It is an output of this stage nevertheless: so DVC
sees that it has changed, runs this stage again, and keeps every version of it.
"""

import numpy as np
from pydantic import Field

from pipelines import paths, stage
from pipelines.artefacts import Prepared, Split
from pipelines.labelled import Feedback
from pipelines.stage import StageError


class LabelsParams(stage.Params, section="labels"):
    """When people's labels are trained on."""

    min_taken: int = Field(ge=1, description="labels; fewer are not trained on")


def labels(feedback: Feedback, prepared: Prepared, min_taken: int) -> Prepared:
    """The taken labels that may be used: TRAIN to train on, TEST for the gate. `rows` are those of `feedback`.

    A picture that is one of the prepared images is left out: it would leak, or bring nothing new. Raises `StageError`
    where the labels are of other classes.
    """
    if feedback.classes != prepared.classes:
        raise StageError(f"{paths.FEEDBACK} has labels of the classes {', '.join(feedback.classes)}; the data have"
                         f" {', '.join(prepared.classes)}: move the file away")  # fmt: skip
    there = {image.tobytes() for image in prepared.images}
    rows = np.array([row for row in feedback.taken if feedback.pixels[row].tobytes() not in there], np.int64)
    splits = feedback.judged.splits[rows]
    if (splits == Split.TRAIN).sum() < min_taken:
        rows, splits = rows[splits == Split.TEST], splits[splits == Split.TEST]
    return Prepared(feedback.pixels[rows], feedback.rows["label"][rows], feedback.classes, splits, rows)


def main() -> None:
    params = LabelsParams.load()
    prepared = Prepared.load(paths.PREPARED)
    feedback = Feedback.load(paths.FEEDBACK) if paths.FEEDBACK.exists() else Feedback.empty(prepared.classes)
    if not feedback.cursor:
        feedback = Feedback.empty(prepared.classes)  # the classes change with the source of the data
        feedback.save(paths.FEEDBACK)
    chosen = labels(feedback, prepared, params.min_taken)
    chosen.save(paths.LABELS)
    train, test = (int((chosen.splits == split).sum()) for split in (Split.TRAIN, Split.TEST))
    few = "" if train else f"; fewer than {params.min_taken} are not trained on"
    print(f"labels: {train:,} to train on and {test:,} to judge with, of {len(feedback.taken):,} that are taken{few}")


if __name__ == "__main__":
    stage.run(main)
