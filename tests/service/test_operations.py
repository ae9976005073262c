"""Alive, ready, and who it is."""

import importlib.metadata

from model import bundle


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
    assert set(paths) == {
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
