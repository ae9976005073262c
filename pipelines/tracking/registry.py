"""The model registry: versions of the registered model, and the aliases `challenger` and `champion`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from model.bundle import FEATURES, GOLDEN, MANIFEST, MODEL
from model.hashing import sha256
from pipelines.tracking import server
from pipelines.tracking.server import Unreachable

CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
BUNDLE_TAG: Final = "neocog.bundle"  # of a model version: the path of its bundle among the artifacts of its run


@dataclass(frozen=True)
class Champion:
    """The registered model that has the alias `champion`."""

    version: str
    bundle: Path  # a copy of it


def champion(into: Path) -> Champion | None:
    """Downloads the champion's bundle below `into`; None if there is no champion. Raises `Unreachable`."""
    with server.connected() as client:
        models = client.search_registered_models(f"name = '{server.NAME}'")
        number = models[0].aliases.get(CHAMPION) if models else None
        if number is None:
            return None
        version = client.get_model_version(server.NAME, number)
        path = version.tags.get(BUNDLE_TAG)
        if path is None:
            registry = server.shown(server.uri())
            raise Unreachable(f"version {number} of {server.NAME}, the champion in {registry}, has no bundle")
        return Champion(str(number), Path(client.download_artifacts(version.run_id, path, str(into))))


def register(client: mlflow.MlflowClient, run_id: str, bundle: Path, tags: dict[str, str]) -> str:
    """The model version of `bundle`, created unless the run has it already."""
    path = f"bundles/{sha256(bundle / MANIFEST)[:12]}"
    existing = latest_version(client, run_id, path)
    if existing is not None:
        return existing
    client.log_artifacts(run_id, str(bundle), path)
    with mlflow.start_run(run_id, log_system_metrics=False):
        info = _log_model(bundle)
    if not client.search_registered_models(f"name = '{server.NAME}'"):
        client.create_registered_model(server.NAME)
    # The tags are part of this one call, so that a version without its bundle tag never exists.
    tags = {**tags, BUNDLE_TAG: path}
    version = client.create_model_version(server.NAME, info.model_uri, run_id, tags, model_id=info.model_id)
    return str(version.version)


def _log_model(bundle: Path) -> mlflow.models.model.ModelInfo:
    with np.load(bundle / GOLDEN) as golden:
        example = golden["pixels"][:1, None].astype(np.float32) / np.float32(255)
        classes = golden["prob"].shape[1]
    float32 = np.dtype(np.float32)
    images, prob = TensorSpec(float32, (-1, 1, 28, 28), "image"), TensorSpec(float32, (-1, classes), "prob")
    features = TensorSpec(float32, (-1, FEATURES), "features")
    return mlflow.onnx.log_model(
        onnx.load(bundle / MODEL),
        name="model",
        signature=ModelSignature(Schema([images]), Schema([prob, features])),
        input_example={"image": example},
        onnx_execution_providers=["CPUExecutionProvider"],
        pip_requirements=["onnxruntime", "numpy"],  # without the list MLflow starts another process to find it out
        save_as_external_data=False,
    )


def latest_version(client: mlflow.MlflowClient, run_id: str, path: str | None = None) -> str | None:
    """The run's latest registered version; with `path`, the one whose bundle lies there."""
    versions = client.search_model_versions(f"name = '{server.NAME}' and run_id = '{run_id}'")
    numbers = [str(version.version) for version in versions if path in (None, version.tags.get(BUNDLE_TAG))]
    return max(numbers, key=int, default=None)


def set_alias(client: mlflow.MlflowClient, alias: str, version: str, time: int) -> None:
    """Moves `alias` to `version`, unless a later event moved it: runs recorded offline arrive in any order."""
    tag = f"{alias}.moved"
    moved = client.get_registered_model(server.NAME).tags.get(tag, "0")
    if time >= int(moved):
        client.set_registered_model_alias(server.NAME, alias, version)
        client.set_registered_model_tag(server.NAME, tag, str(time))
