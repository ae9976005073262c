"""`make sync`: sends MLflow the events it has not received yet."""

from collections.abc import Sequence

from pipelines import paths, stage
from pipelines.stage import StageError
from pipelines.tracking.outbox import Run, waiting
from pipelines.tracking.server import Unreachable, shown, uri


def sync(runs: Sequence[Run]) -> None:
    """Sends every run. Raises `StageError` at the end if one of them could not be sent."""
    problem = None
    for run in runs:
        events = run.pending
        try:
            run.send()
        except Unreachable as error:
            problem = error
        else:
            print(f"sync: {run.key}: {events} events sent to {shown(uri())}, MLflow run {run.sent.run_id}")
    if problem:
        raise StageError(f"{problem}; {len(waiting())} runs wait in {paths.RUNS}/")
    if not runs:
        print(f"sync: nothing waits, {shown(uri())} has every run")


def main() -> None:
    sync(waiting())


if __name__ == "__main__":
    stage.run(main)
