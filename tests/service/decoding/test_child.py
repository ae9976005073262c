"""What a decoder says of each picture, and what its process may take."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bench.bombs import saved
from model.canonical import canonical
from model.canonical.images import BrokenImage, NoInk, NotAnImage, TooManyPixels, decode
from service.decoding import child
from service.decoding.child import Answer, work
from tests.bundles import DIGITS, png

pytestmark = pytest.mark.slow  # it starts processes

LARGE = png(np.kron(DIGITS[3], np.ones((10, 10), np.uint8)))  # 280x280
PICTURES = [
    png(DIGITS[5]),
    LARGE,
    b"not an image",
    png(DIGITS[6])[:80],
    png(np.zeros((30, 30), np.uint8)),
    png(DIGITS[7]),
]


def test_each_picture_gets_what_canonical_makes_of_it_in_order():
    answers = work(PICTURES, 1_000_000)
    for place in (0, 1, 5):
        assert np.array_equal(answers[place].outcome, canonical(decode(PICTURES[place])))
    assert [type(answers[place].outcome) for place in (2, 3, 4)] == [NotAnImage, BrokenImage, NoInk]
    assert [answer.pixels for answer in answers] == [784, 78_400, 0, 784, 900, 784]


def test_too_many_pixels_are_refused():
    (answer,) = work([LARGE], 78_399)
    assert isinstance(answer.outcome, TooManyPixels)
    assert str(answer.outcome) == "280x280 is 78,400 pixels; at most 78,399 are decoded"


def test_an_answer_survives_the_socket():
    for answer in work(PICTURES, 1_000_000):
        same = Answer.unpacked(answer.packed())
        assert same[1:] == answer[1:]
        if isinstance(answer.outcome, np.ndarray):
            assert np.array_equal(same.outcome, answer.outcome)
        else:
            assert (type(same.outcome), str(same.outcome)) == (type(answer.outcome), str(answer.outcome))


def test_an_answer_of_any_length_fits():
    said = Answer.unpacked(Answer(NoInk("é" * 2000)).packed()).outcome
    assert type(said) is NoInk
    assert set(str(said)) <= {"é", "\ufffd"}


def test_a_bug_is_no_fault_of_the_picture(monkeypatch):
    monkeypatch.setattr(child, "canonical_batch", lambda _: 1 / 0)
    (answer,) = work([PICTURES[0]], 1000)
    said = Answer.unpacked(answer.packed()).outcome
    assert (type(said), str(said)) == (RuntimeError, "a decoder failed: ZeroDivisionError('division by zero')")


CONFINED = """
from service.decoding.child import GROWN, MEMORY, Confinement, warm_up
warm_up()
confinement = Confinement()
for _ in range(3):
    assert confinement.job()
    job = bytearray(MEMORY - 2**20)
    try:
        bytearray(2 * 2**20)
    except MemoryError:
        del job
    else:
        raise SystemExit("2 MiB more were there")
kept = bytearray(GROWN + 2**20)
assert not confinement.job()
"""


def test_a_job_gets_so_much_memory_and_a_process_that_grew_is_replaced():
    ran = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def photo(width, height, mode, kind, **options):
    """A grainy page with a 1."""
    grain = np.random.default_rng(0).integers(200, 212, (height, width), np.uint8)
    grain[height // 4 : 3 * height // 4, width * 9 // 20 : width * 11 // 20] = 40
    image = Image.fromarray(grain)
    if mode == "I;16":
        image = Image.fromarray(grain.astype(np.uint16) * 257)
    return saved(image.convert(mode) if mode != "I;16" else image, kind, **options)


PHOTOS = {
    "a phone's jpeg": (4000, 3000, "RGB", "JPEG"),
    "a jpeg of 25 megapixels": (5000, 5000, "RGB", "JPEG"),
    "a progressive jpeg": (4000, 3000, "RGB", "JPEG", {"progressive": True}),
    "a png in colours": (4000, 3000, "RGB", "PNG", {"compress_level": 1}),
    "a png in grey": (5000, 5000, "L", "PNG", {"compress_level": 1}),
    "a png with transparency": (2000, 2000, "RGBA", "PNG", {"compress_level": 1}),
    "a gif": (4000, 3000, "L", "GIF"),
    "a webp": (1900, 1900, "RGB", "WEBP", {"method": 0}),
    "a tiff of 16 bits": (4000, 3000, "I;16", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "a tiff of floats": (2000, 2000, "F", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "a bmp": (2000, 1500, "RGB", "BMP"),
}
READ = """
import sys
import numpy as np
from service.decoding.child import Confinement, warm_up, work
warm_up()
data = sys.stdin.buffer.read()
Confinement().job()
(answer,) = work([data], 25_000_000)
assert isinstance(answer.outcome, np.ndarray), answer
sys.stdout.buffer.write(answer.outcome.tobytes())
"""


@pytest.mark.parametrize("name", PHOTOS)
def test_ordinary_large_pictures_fit_into_the_memory(name):
    width, height, mode, kind, *options = PHOTOS[name]
    env = {"PYTHONPATH": ":".join(sys.path), "OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "262144"}
    data = photo(width, height, mode, kind, **(options[0] if options else {}))
    ran = subprocess.run([sys.executable, "-c", READ], input=data, env=env, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()
    seen = np.frombuffer(ran.stdout, np.uint8).reshape(28, 28)
    assert seen[7:21, 13:15].min() > 128  # the stroke
    assert not seen[:, :11].any()
    assert not seen[:, 18:].any()
