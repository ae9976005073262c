"""A new bundle in the place of the old one, while the service answers; and a challenger that looks on."""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from model import bundle
from model.bundle import replace
from service import metrics
from service.bundles import PAUSE, SHADOW_QUEUE, Bundles, Shadow
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


def test_a_flood_of_sighups_costs_nothing_where_nothing_has_changed(serve, folder):
    service = serve(bundle=folder, reload_seconds=0)
    for _ in range(4700):
        service.process.send_signal(signal.SIGHUP)
    new = put_another(folder)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: version(service) == new)
    assert service.metric('neocog_reloads_total{result="served"}') == 1
    assert service.metric('neocog_reloads_total{result="refused"}') == 0


def test_however_often_the_folder_changes_it_is_loaded_once_a_second(serve, folder):
    service, begun = serve(bundle=folder, reload_seconds=0), time.monotonic()
    for turn in range(300):
        os.utime(folder / "model.onnx", ns=(turn, turn))
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    new = put_another(folder)  # the last change is seen, too
    service.process.send_signal(signal.SIGHUP)
    until(lambda: version(service) == new)
    assert service.metric('neocog_reloads_total{result="served"}') <= (time.monotonic() - begun) / PAUSE + 1


def watched(bundles, happens):
    """Watches until `happens()`, without a look in between: only the one at the beginning, and those at SIGHUP."""

    async def watch():
        watching = asyncio.create_task(bundles.watch(0))
        await asyncio.to_thread(until, happens)
        watching.cancel()

    asyncio.run(watch())


def test_a_change_between_the_start_and_the_watch_is_seen(folder):
    bundles = Bundles(folder, None)
    new = put_another(folder)
    watched(bundles, lambda: bundles.current.manifest.version == new)
    bundles.close()


def test_a_bundle_that_could_not_be_read_is_tried_again(folder):
    bundles = Bundles(folder, None)
    assert not bundles.look(asked=True)  # nothing is new
    new = put_another(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no more files can be opened
    try:
        assert bundles.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert bundles.current.manifest.version != new
    assert bundles.look()
    assert bundles.current.manifest.version == new
    assert not bundles.look(asked=True)
    bundles.close()


def test_a_bad_bundle_and_a_missing_one_are_tried_once(folder):
    bundles = Bundles(folder, None)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert bundles.look()
    assert not bundles.look(asked=True)
    shutil.rmtree(folder)
    assert not bundles.look()  # `promote` is about to put one there
    assert bundles.look(asked=True)
    assert not bundles.look(asked=True)
    bundles.close()


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "reference.npz", "golden.npz"])
def test_a_fifo_holds_up_neither_the_next_bundle_nor_the_end(serve, folder, name):
    service = serve(bundle=folder, reload_seconds=0.1)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    until(lambda: any("not a regular file" in line for line in service.log))
    assert service.http.post("/predict", content=PICTURES[3]).json()["digit"] == 3
    new = put_another(folder)
    until(lambda: version(service) == new)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert service.stop() == 0


def test_a_bundle_that_cannot_be_read_is_one_line_at_the_start(folder):
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("model.onnx")
    env = {**os.environ, "NEOCOG_BUNDLE": str(folder), "NEOCOG_PORT": "0", "NEOCOG_JOURNAL": "off"}
    ran = subprocess.run([sys.executable, "-m", "service"], env=env, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 3
    (said,) = [line for line in ran.stderr.splitlines() if '"level": "error"' in line and "Exiting" not in line]
    assert f"the bundle at {folder} cannot be read: [Errno 40] Too many levels of symbolic links" in said
    assert "Traceback" not in said


def test_all_workers_reload(serve, folder):
    service = serve(bundle=folder, reload_seconds=0, workers=2)
    until(lambda: len(started(service)) == 2)  # a worker that starts later loads the new one, and never reloads
    new = put_another(folder)
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


def test_a_challenger_comes_while_the_service_runs_and_a_bad_one_looks_on_no_longer(serve, tmp_path):
    place = tmp_path / "challenger"
    service = serve(shadow_bundle=place, shadow_share=1, reload_seconds=0.05)
    service.http.post("/predict", content=PICTURES[0])
    assert service.metric('neocog_shadow_total{result="agrees"}') == 0
    make_bundle(tmp_path / "made", model=linear_model(5.0))
    (tmp_path / "made").rename(place)

    def compared():
        service.http.post("/predict", content=PICTURES[0])
        return service.metric('neocog_shadow_total{result="agrees"}') > 0

    until(compared)
    (place / "model.onnx").write_bytes(b"no model")
    until(lambda: "the challenger is refused" in "".join(list(service.log)))
    assert service.http.post("/predict", content=PICTURES[0]).status_code == 200


def pictures(*results):
    return sum(metrics.SHADOW.labels(result)._value.get() for result in results)


def test_a_slow_challenger_has_a_bounded_queue(folder):
    shadow, busy = Shadow(folder, 1.0), threading.Event()
    shadow._threads.submit(busy.wait)
    compared, passed_over = pictures("agrees", "disagrees"), pictures("passed over")
    many = np.repeat(DIGITS, 4, axis=0)[:32]  # as many as the reader reads at a time
    for _ in range(100):
        shadow.look(many, [0] * 32)
    assert pictures("passed over") - passed_over == 3200 - SHADOW_QUEUE
    assert shadow._threads.waiting * many.nbytes <= 2_000_000
    busy.set()
    until(lambda: pictures("agrees", "disagrees") - compared == SHADOW_QUEUE)
    until(lambda: shadow._taken == shadow._done)
    shadow.look(many, [0] * 32)  # there is room again
    until(lambda: pictures("agrees", "disagrees") - compared == SHADOW_QUEUE + 32)
    shadow.close()


def test_prometheus_is_told_when_the_model_that_is_served_was_made(tmp_path):
    created = lambda bundles: metrics.MODEL_CREATED.labels(bundles.current.manifest.version)._value.get()  # noqa: E731
    folder = tmp_path / "bundle"
    make_bundle(folder, model=linear_model(11.0), created="2026-01-01T00:00:00+00:00")
    bundles = Bundles(folder, None)
    assert created(bundles) == 1767225600
    old = metrics.MODEL_CREATED.labels(bundles.current.manifest.version)
    make_bundle(tmp_path / "made", model=linear_model(12.0), created="some day")
    replace(tmp_path / "made", folder)
    assert bundles.look()
    assert old._value.get() == 0
    assert np.isnan(created(bundles))
    bundles.close()
