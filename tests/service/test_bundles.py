"""A new bundle in the place of the old one, while the service answers; and a challenger that looks on."""

import os
import shutil
import signal
import threading
import time

import pytest

from model import bundle
from model.bundle import replace
from tests.bundles import DIGITS, linear_model, make_bundle, png
from tests.waiting import until

PICTURES = [png(digit) for digit in DIGITS]


@pytest.fixture
def folder(tmp_path, bundle_folder):
    """A bundle of one's own, to change."""
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    return tmp_path / "bundle"


def put_another(folder, sharpness=10.0):
    """As `promote` does: written beside it, then renamed."""
    made = folder.with_name("made")
    make_bundle(made, model=linear_model(sharpness))
    replace(made, folder)
    return bundle.read(folder).version


def version(service):
    """Of whichever worker takes a new connection."""
    return service.http.get("/version", headers={"Connection": "close"}).json()["version"]


def test_a_new_bundle_is_served_and_no_request_fails(serve, folder):
    service = serve(bundle=folder, reload_seconds=0.1)
    old = version(service)
    failed, versions, over = [], set(), threading.Event()

    def load():
        import httpx2

        with httpx2.Client(base_url=service.address) as client:
            while not over.is_set():
                response = client.post("/predict", content=PICTURES[3])
                if response.status_code != 200 or response.json()["digit"] != 3:
                    failed.append(response.text)
                versions.add(response.json().get("model_version"))

    clients = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    expected = [old]
    until(lambda: old in versions)
    for sharpness in (11.0, 12.0, 13.0):
        expected.append(put_another(folder, sharpness))
        until(lambda: expected[-1] in versions)
    over.set()
    for client in clients:
        client.join()
    assert not failed
    assert versions == set(expected)
    assert service.metric('neocog_reloads_total{result="served"}') == 3


def test_at_sighup(serve, folder):
    service = serve(bundle=folder, reload_seconds=0)
    new = put_another(folder)
    time.sleep(0.3)
    assert version(service) != new
    service.process.send_signal(signal.SIGHUP)
    until(lambda: version(service) == new)


def test_all_workers_reload(serve, folder):
    service = serve(bundle=folder, reload_seconds=0, workers=2)
    new = put_another(folder)
    until(lambda: len(started(service)) == 2)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: service.metric('neocog_reloads_total{result="served"}') == 2)
    assert {version(service) for _ in range(8)} == {new}


def started(service):
    return [line for line in service.log if "Application startup complete" in line]


def test_a_worker_that_dies_while_the_bundle_is_bad_takes_nobody_along(serve, folder):
    service = serve(bundle=folder, reload_seconds=0.1, workers=2)
    until(lambda: len(started(service)) == 2)
    old = version(service)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    os.kill(service.workers()[0], signal.SIGKILL)
    until(lambda: any("could not start; another try" in line for line in service.log))
    assert version(service) == old
    assert service.http.post("/predict", content=PICTURES[3]).json()["digit"] == 3
    put_another(folder)
    until(lambda: len(started(service)) == 3)


def test_a_corrupt_one_leaves_the_old_one_serving(serve, folder):
    service = serve(bundle=folder, reload_seconds=0.1)
    old = version(service)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    until(lambda: service.metric('neocog_reloads_total{result="refused"}') == 1)
    assert version(service) == old
    assert service.http.post("/predict", content=PICTURES[3]).json()["digit"] == 3
    until(lambda: any("the new bundle is refused" in line and "the model has SHA-256" in line for line in service.log))
    new = put_another(folder)
    until(lambda: version(service) == new)


def test_one_that_is_whole_and_no_model_of_digits_is_refused_too(serve, folder):
    service = serve(bundle=folder, reload_seconds=0.1)
    old = version(service)
    make_bundle(folder.with_name("made"), model=linear_model().replace(b"image", b"imagf"), unproved=True)
    replace(folder.with_name("made"), folder)
    until(lambda: service.metric('neocog_reloads_total{result="refused"}') >= 1)
    assert version(service) == old
    new = put_another(folder)
    until(lambda: version(service) == new)


def test_a_challenger_sees_what_is_asked_and_answers_nobody(serve, tmp_path):
    make_bundle(tmp_path / "challenger", model=linear_model(5.0))
    service = serve(shadow_bundle=tmp_path / "challenger", shadow_share=1)
    for picture in PICTURES:
        answer = service.http.post("/predict", content=picture).json()
        assert answer["model_version"] == version(service)
    until(lambda: service.metric('neocog_shadow_total{result="agrees"}') == 10)
    assert service.metric('neocog_shadow_total{result="disagrees"}') == 0


def test_a_challenger_that_disagrees_is_counted(serve, tmp_path):
    make_bundle(tmp_path / "challenger", model=linear_model(-20.0))  # says what the picture is least like
    service = serve(shadow_bundle=tmp_path / "challenger", shadow_share=1)
    for picture in PICTURES:
        service.http.post("/predict", content=picture)
    until(lambda: service.metric('neocog_shadow_total{result="disagrees"}') == 10)
