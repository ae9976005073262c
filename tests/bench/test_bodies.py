import subprocess
import sys

import pytest

from bench.bodies import HOSTILE
from bench.bombs import BOMBS, COSTLY
from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_it_prints_a_row_for_each_body(bundle):
    # A process of its own, because it pins itself to one core.
    words = [sys.executable, "-m", "bench.bodies", "--bundle", bundle, "--turns", "1"]
    ran = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split(" | ") for line in ran.stdout.splitlines()[2:]]
    names = {name.removeprefix("| "): reason for name, reason, *_ in rows}
    assert list(names) == ["10 MB of nothing", *HOSTILE, *BOMBS, *COSTLY]
    for name, hostile in HOSTILE.items():
        assert names[name] == (hostile.reason or "answered")
