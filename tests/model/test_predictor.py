"""A bundle is checked before it is used."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import onnx
import pytest

from bench.bombs import claiming
from model import bundle, predictor
from model.bundle import BundleError, Golden
from model.drift import BadReference, Reference
from model.predictor import Predictor
from model.statistics import measure
from tests.archives import HOSTILE, npy, packed
from tests.bundles import DIGITS, linear_model, make_bundle, put_file


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


def test_a_file_that_is_no_model_is_refused(tmp_path):
    make_bundle(tmp_path / "bundle")
    put_file(tmp_path / "bundle", bundle.MODEL, b"not a model")
    with pytest.raises(BundleError, match="is not a model ONNX Runtime loads"):
        Predictor.load(tmp_path / "bundle")


def test_features_are_of_the_images(tmp_path):
    make_bundle(tmp_path / "bundle")
    predictor = Predictor.load(tmp_path / "bundle")
    found = predictor.features(DIGITS)
    assert found.shape == (10, 4)
    assert found[:4].argmax(axis=1).tolist() == [0, 1, 2, 3]  # its features are likenesses to the first four
    reference = Reference.parse(predictor.reference)
    measured = measure(predictor.probabilities(DIGITS), DIGITS, found)
    assert Reference.of(measured, np.ones(10, bool)).digest == reference.digest


def test_an_older_model_without_features_is_served_but_refused_where_they_are_needed(tmp_path):
    model = onnx.load_from_string(linear_model())
    del model.graph.output[1]
    version = make_bundle(tmp_path / "bundle", model=model.SerializeToString(), reference=b"histograms").version
    predictor = Predictor.load(tmp_path / "bundle")
    assert predictor.predict(DIGITS)[3].digit == 3
    with pytest.raises(BundleError, match=f"model {version} has no output `features` of 4 columns; export it again"):
        predictor.features(DIGITS)
    with pytest.raises(BadReference, match=r"reference\.npz: not an \.npz file"):
        Reference.parse(predictor.reference)


def test_weights_in_another_file_are_refused_since_no_hash_covers_them(tmp_path):
    make_bundle(tmp_path / "bundle")
    model = onnx.load_from_string(linear_model())
    onnx.save_model(
        model, tmp_path / "bundle" / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    put_file(tmp_path / "bundle", bundle.MODEL, (tmp_path / "bundle" / "model.onnx").read_bytes())
    assert (tmp_path / "bundle" / "weights").exists()
    with pytest.raises(BundleError, match="is not a model ONNX Runtime loads"):
        Predictor.load(tmp_path / "bundle")


def test_a_bundle_that_is_replaced_while_it_is_loaded_is_the_old_one_as_a_whole(tmp_path, monkeypatch):
    folder, session = tmp_path / "bundle", predictor._session
    old = make_bundle(folder)

    def replaced_first(*arguments):
        make_bundle(folder, model=linear_model(1.0))
        return session(*arguments)

    monkeypatch.setattr(predictor, "_session", replaced_first)
    loaded = Predictor.load(folder)
    assert bundle.read(folder).version != loaded.manifest.version == old.version
    assert loaded.predict(DIGITS)[3].confidence > 0.9  # the new one is unsure of everything


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_golden_answers_are_refused_before_they_fill_the_memory(tmp_path, name):
    build, said = HOSTILE[name]
    make_bundle(tmp_path / "bundle")
    put_file(tmp_path / "bundle", bundle.GOLDEN, build())
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=f"golden.npz: .*{said}"):
            Predictor.load(tmp_path / "bundle")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_golden_picture_that_claims_to_be_huge_is_refused(tmp_path):
    make_bundle(tmp_path / "bundle")
    pictures = {f"encoded_{i}": npy(np.frombuffer(claiming(5000, 5000), np.uint8)) for i in range(10)}
    answers = npy(np.full((10, 10), 0.1, np.float32))
    put_file(tmp_path / "bundle", bundle.GOLDEN, packed(pixels=npy(DIGITS), prob=answers, **pictures))
    with pytest.raises(BundleError, match="at most 1,000,000 are decoded"):
        Predictor.load(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pixels": DIGITS[:, :27]}, r"golden.npz: pixels are uint8 of shape \(10, 27, 28\)"),
        ({"pixels": DIGITS.astype(np.int64)}, "golden.npz: pixels are int64"),
        ({"prob": np.full((10, 1, 10), 0.1, np.float32)}, r"golden.npz: prob is float32 of shape \(10, 1, 10\)"),
        ({"prob": np.full((10, 9), 0.1, np.float32)}, "golden.npz has 9 probabilities for 10 labels"),
        ({"encoded": []}, "golden.npz: 'encoded_0' is missing"),
        ({"pixels": DIGITS[:0], "prob": np.zeros((0, 10), np.float32)}, "golden.npz: pixels are"),
    ],
)
def test_golden_answers_of_another_shape_are_refused(tmp_path, monkeypatch, changes, said):
    forged(tmp_path / "bundle", monkeypatch, **changes)
    with pytest.raises(BundleError, match=said):
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
