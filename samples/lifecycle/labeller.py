"""A person with the labeller's role, who says of each picture in the queue what its writer meant."""

import json
import time
from collections.abc import Mapping

from samples.lifecycle.world import JSON, World, call


class Labeller:
    """Works through the queue of /label, over the HTTP interface that the page uses, too."""

    def __init__(self, world: World, key: str) -> None:
        self._world, self._key = world, {"X-API-Key": key}
        self.given = 0

    def label(self, count: int, known: Mapping[str, int], *, audit: bool = False) -> None:
        """Gives `count` labels; in an `audit` of pictures drawn at random, as many as there are, if fewer.

        `known` are the golden pictures: anybody can read them, though nobody sent them.
        """
        wanted = self.given + count
        while self.given < wanted:
            query = f"n={min(20, wanted - self.given)}&audit={str(audit).lower()}"
            items = call(self._world.address, f"/label/next?{query}", None, self._key)["items"]
            for item in items:
                digit = known.get(item["prediction_id"], self._world.meant.get(item["prediction_id"]))
                body = json.dumps({"token": item["token"], "label": digit}).encode()
                call(self._world.address, "/label", body, self._key | JSON)
            self.given += len(items)
            if not items and audit:
                return
            if not items:
                time.sleep(0.2)  # the journal writes what was just predicted
