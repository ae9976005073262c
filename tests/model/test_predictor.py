"""A bundle is checked before it is used."""

import os
import subprocess
import sys

import numpy as np
import pytest

from model import bundle
from model.bundle import BundleError, Golden
from model.hashing import sha256
from model.predictor import Predictor
from tests.bundles import DIGITS, make_bundle


def test_synthetic_digits_are_read(tmp_path):
    make_bundle(tmp_path / "bundle")
    predictions = Predictor.load(tmp_path / "bundle").predict(DIGITS)
    assert [prediction.digit for prediction in predictions] == list(range(10))
    for prediction in predictions:
        assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)
        assert prediction.confidence == max(prediction.probabilities)


def test_below_the_threshold_it_abstains(tmp_path):
    make_bundle(tmp_path / "sure", abstain_below=0.0)
    make_bundle(tmp_path / "unsure", abstain_below=1.0)
    assert not any(p.abstained for p in Predictor.load(tmp_path / "sure").predict(DIGITS))
    assert all(p.abstained for p in Predictor.load(tmp_path / "unsure").predict(DIGITS))


def test_another_version_of_canonical_is_refused(tmp_path):
    make_bundle(tmp_path / "bundle", canonical_version="0")
    with pytest.raises(BundleError, match="trained on canonical version 0, this code makes version"):
        Predictor.load(tmp_path / "bundle")
    assert Predictor.load(tmp_path / "bundle", prove=False).predict(DIGITS)[3].digit == 3


def test_another_number_of_labels_than_probabilities_is_refused(tmp_path):
    make_bundle(tmp_path / "bundle")
    manifest = bundle.Manifest.model_validate_json((tmp_path / "bundle" / "manifest.json").read_bytes())
    fewer = manifest.model_copy(update={"labels": ["x", "y"]})
    (tmp_path / "bundle" / "manifest.json").write_text(fewer.model_dump_json())
    with pytest.raises(BundleError, match="10 probabilities for 2 labels"):
        Predictor.load(tmp_path / "bundle")


def forged(folder, monkeypatch, **changes):
    """A bundle with a consistent manifest, but with golden answers that are not the model's."""
    save = Golden.save
    monkeypatch.setattr(Golden, "save", lambda self, path: save(self.model_copy(update=changes), path))
    make_bundle(folder)


def test_other_golden_answers_are_refused(tmp_path, monkeypatch):
    forged(tmp_path / "bundle", monkeypatch, prob=np.full((10, 10), 0.1, np.float32))
    with pytest.raises(BundleError, match=r"the golden answers differ by 0.*, allowed is 1e-04"):
        Predictor.load(tmp_path / "bundle")


def test_other_golden_pixels_are_refused(tmp_path, monkeypatch):
    forged(tmp_path / "bundle", monkeypatch, pixels=DIGITS[::-1].copy())
    with pytest.raises(BundleError, match="canonical no longer gives the golden images the pixels they had"):
        Predictor.load(tmp_path / "bundle")


def test_a_file_that_is_no_model_is_refused(tmp_path, monkeypatch):
    make_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"not a model")
    manifest = bundle.Manifest.model_validate_json((tmp_path / "bundle" / "manifest.json").read_bytes())
    digest = sha256(tmp_path / "bundle" / "model.onnx")
    changes = {"sha256": manifest.sha256 | {"model": digest}, "version": digest[:12]}
    (tmp_path / "bundle" / "manifest.json").write_text(manifest.model_copy(update=changes).model_dump_json())
    with pytest.raises(BundleError, match="is not a model ONNX Runtime loads"):
        Predictor.load(tmp_path / "bundle")


def test_onnx_runtime_reports_to_nobody(tmp_path):
    make_bundle(tmp_path / "bundle")
    home = tmp_path / "home"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    code = "import sys, pathlib, model.predictor as p; p.Predictor.load(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, tmp_path / "bundle"]
    subprocess.run(command, env=env | {"HOME": str(home), "XDG_CACHE_HOME": str(home)}, check=True)
    assert not list(home.rglob("deviceid"))  # the identity that it would report


def test_serving_imports_neither_torch_nor_the_pipelines_tools():
    code = "import sys, service.app; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "onnxruntime" in loaded
    assert not {"torch", "mlflow", "dvc", "sklearn", "scipy", "matplotlib", "onnx", "pipelines"} & set(loaded)
