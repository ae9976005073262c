"""Identifiers that sort by time, and those of golden pictures."""

import hashlib
import time

from journal.ids import earlier, golden_id, new_id


def test_what_is_earlier_sorts_before_the_ids_of_that_time_and_after_older_ones():
    old = new_id()
    time.sleep(0.01)
    new = new_id()
    assert old < new
    assert earlier(new, 0) <= new
    assert old < earlier(new, 0.002)
    assert earlier(new, 60) < old
    assert earlier("0" * 32, 60) == "0" * 12


def test_golden_pictures_have_ids_that_anybody_can_compute():
    assert golden_id("abcdef012345", 7) == hashlib.sha256(b"golden abcdef012345 7").hexdigest()[:32]
