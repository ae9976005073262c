"""What the service knows of a model's world."""

import asyncio
import json
from types import SimpleNamespace

from journal.writer import Journal
from service.drift import Drift
from tests.service.routes.test_drift import UNKNOWN, summary, watched


def test_after_a_new_bundle_the_old_ones_summary_is_gone_at_once(tmp_path):
    url, said = f"sqlite:///{tmp_path}/journal.db", summary("old")
    watched(url, "old", json.dumps(said))
    journal = Journal(url, 10)
    bundles = SimpleNamespace(current=SimpleNamespace(manifest=SimpleNamespace(version="old")))

    async def asked():
        drift = Drift(journal, bundles)
        while json.loads(drift.summary()) != said:
            await asyncio.sleep(0.01)
        bundles.current.manifest.version = "new"
        return json.loads(drift.summary())

    assert asyncio.run(asyncio.wait_for(asked(), 120)) == UNKNOWN
    journal.close(within=30)
