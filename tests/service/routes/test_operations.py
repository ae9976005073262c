"""Alive, ready, and who it is."""

import importlib.metadata
import re

import numpy as np

from model import bundle
from model.predictor import Predictor
from service.edge.problems import REASONS
from tests.conftest import REPOSITORY
from tests.service.conftest import in_process


def test_it_is_alive_and_ready(http):
    assert http.get("/livez").text == "ok\n"
    ready = http.get("/readyz")
    assert ready.status_code == 200
    assert ready.text.startswith("ready: model ")


def test_the_version_is_the_bundles(http, bundle_folder):
    manifest = bundle.read(bundle_folder)
    version = http.get("/version").json()
    assert version["version"] == manifest.version
    assert version["sha256"] == manifest.sha256
    assert version["run"] == "a-run"
    assert version["service"] == {"version": importlib.metadata.version("neocog"), "revision": None}


def test_docs_and_openapi_are_there(http):
    assert http.get("/docs").status_code == 200
    paths = http.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/drift", "/label", "/label/next", "/label/stats",
        "/predict", "/predict/batch", "/feedback", "/livez", "/readyz", "/version", "/metrics", "/v2",
        "/v2/health/live", "/v2/health/ready",
        "/v2/models/digits", "/v2/models/digits/ready", "/v2/models/digits/infer",
    }  # fmt: skip
    assert set(paths["/predict"]["post"]["requestBody"]["content"]) >= {
        "multipart/form-data",
        "image/png",
        "application/json",
    }
    assert set(paths["/predict"]["post"]["responses"]) >= {"200", "400", "413", "415", "422"}


def test_a_model_that_answers_otherwise_than_it_did_is_not_ready(bundle_folder, monkeypatch):
    with in_process(bundle_folder) as client:
        assert client.get("/readyz").status_code == 200
        monkeypatch.setattr(Predictor, "probabilities", lambda _, pixels: np.full((len(pixels), 10), 0.1, np.float32))
        for path in ("/readyz", "/v2/health/ready", "/v2/models/digits/ready"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert answer.json()["reason"] == "golden-failed"
        assert client.get("/livez").status_code == 200


def test_the_documentation_lists_every_reason(client):
    document = client.get("/openapi.json").json()
    for reason, (status, when) in REASONS.items():
        assert f"| `{reason}` | {status} | {when} |" in document["info"]["description"]
    assert document["components"]["schemas"]["ProblemDetails"]["properties"]["reason"]["enum"] == [*REASONS]


def test_every_reason_is_given_somewhere():
    """The catalogue has no reason that the code does not give; `Problem` refuses one that is not in the catalogue."""
    code = "".join(
        path.read_text() for path in [*REPOSITORY.glob("service/**/*.py"), *REPOSITORY.glob("model/**/*.py")]
    )
    for reason in REASONS:
        given = rf"(Problem\(\s*\"{reason}\"|reason = \"{reason}\"|: \"{reason}\"|, \"{reason}\"\))"
        assert re.search(given, code), reason


def test_a_bug_in_an_open_route_is_a_problem_like_any_other(client, monkeypatch):
    def fails(_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("service.routes.operations.said_ready", fails)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (500, "internal-error")
    assert client.get("/livez").status_code == 200
