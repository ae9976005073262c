import httpx2
import pytest

from bench import serving
from tests.bundles import DIGITS, png
from tests.conftest import REPOSITORY


def test_it_is_refused_without_wrk(measure, monkeypatch, bundle):
    monkeypatch.setenv("PATH", "")
    assert measure("serving", "--bundle", bundle).code == "bench: wrk is missing; apt-get install wrk"


def test_it_is_refused_without_a_bundle(measure, tmp_path):
    ran = measure("serving", "--bundle", tmp_path)
    assert ran.code == 2
    assert f"argument --bundle: {tmp_path} holds no bundle; `dvc repro` makes out/champion" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "request_body"), [
    ("floor", {"content": png(DIGITS[7])}),
    ("bare", {"content": png(DIGITS[7])}),
    ("tutorial", {"files": {"file": ("d.png", png(DIGITS[7]))}}),
])  # fmt: skip
def test_each_server_of_the_comparison_reads_a_digit(bundle, monkeypatch, name, request_body):
    monkeypatch.chdir(REPOSITORY)
    model = str(bundle / "model.onnx")
    with serving.server(serving._uvicorn(name), {serving.cores()[0]}, BENCH_MODEL=model) as (address, process, _):
        assert httpx2.post(f"{address}/predict", **request_body, timeout=60).json()["digit"] == 7
        assert serving.memory(process) > 1


@pytest.mark.slow
def test_a_server_that_ends_is_reported():
    message = r"^bench: python -m timeit nonsense\(\) ended with exit code 1$"
    with pytest.raises(SystemExit, match=message), serving.server(["timeit", "nonsense()"], {serving.cores()[0]}):
        pass
