"""Whether this service may be asked."""

from model.bundle import BundleError
from service.edge.problems import Problem
from service.state import State


def check_ready(serving: State) -> str:
    """The version of the model that is ready. Raises `Problem` (503) where the service is not."""
    if serving.admission.draining:
        raise Problem("draining", "the service is about to end; ask another", retry_after=1)
    predictor = serving.bundles.current
    try:
        predictor.prove_again()
    except BundleError as error:
        raise Problem("golden-failed", str(error)) from error
    return predictor.manifest.version
