import subprocess
import sys

import pytest

from bench.abuse import OVERLOADS
from bench.bombs import BOMBS, COSTLY
from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_it_measures_overload_slow_clients_and_costly_pictures(bundle):
    # A process of its own, because it pins itself to one core.
    words = [sys.executable, "-m", "bench.abuse", "--bundle", bundle, "--seconds", "1", "--turns", "1"]
    ran = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split(" | ")[0].removeprefix("| ") for line in ran.stdout.splitlines()[2:-2]]
    assert rows == [
        *(f"goodput, {kind}" for kind in OVERLOADS),
        *(f"goodput beside {name}" for name in COSTLY),
        "p99 beside 200 slow clients",
        *BOMBS,
    ]
    assert ran.stdout.splitlines()[-1].startswith("The least goodput is ")
