"""Measures what reading a multipart form costs, with the service's reader and with python-multipart's `FormParser`.

    python -m bench.forms        (about 10 seconds)

The two readers take turns, and must find the same files. The figures are microseconds of processor time for one form.
"""

import sys
from functools import partial

import numpy as np
from PIL import Image
from python_multipart.multipart import File, FormParser
from tqdm import tqdm

from bench import command
from bench.bombs import saved
from bench.clock import processor_time
from service.edge.forms import FIELDS, files

BOUNDARY = "neocogbench"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(contents: list[bytes]) -> bytes:
    """A form with a file for each of `contents` in the field `image`, as curl sends it."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="d.png"\r\nContent-Type: image/png'
    parts = [b"%b\r\n\r\n%b\r\n" % (head.encode(), content) for content in contents]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def form_parser(body: bytes) -> list[bytes]:
    """The files in the form's fields `FIELDS`, read by python-multipart's own `FormParser`."""
    contents = []

    def keep(file: File) -> None:
        if (file.field_name or b"").decode("latin-1") in FIELDS:
            file.file_object.seek(0)
            contents.append(file.file_object.read())

    parser = FormParser("multipart/form-data", on_field=None, on_file=keep, boundary=BOUNDARY)
    parser.write(body)
    parser.finalize()
    parser.close()
    return contents


def main() -> None:
    parser = command.Parser("forms", __doc__)
    parser.add_argument("--rounds", type=command.count, default=50, help="turns of each reader; the quickest counts")
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    digit = saved(Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)), "PNG")
    forms = {"one 28x28 PNG": [digit], "64 of them": [digit] * 64, "one file of 300 kB": [rng.bytes(300_000)]}
    print(f"{'us for one form':20} {'service':>9} {'FormParser':>11}")
    ratios = []
    for name, sent in tqdm(forms.items(), unit="form", leave=False, disable=None):
        body = form(sent)
        readers = partial(files, CONTENT_TYPE, body), partial(form_parser, body)
        if not all(read() == sent for read in readers):
            sys.exit(f"bench: the two readers disagree about {name}")
        own, theirs = processor_time(*readers, rounds=rounds, calls=max(1, 64 // len(sent)))
        ratios.append(theirs / own)
        tqdm.write(f"{name:20} {own * 1e6:9,.0f} {theirs * 1e6:11,.0f}", file=sys.stdout)
    print(f"FormParser takes {min(ratios):.1f} to {max(ratios):.1f} times the service's processor time.")


if __name__ == "__main__":
    command.run(main)
