"""Who a row of the journal is from."""

import re

from service.callers import Callers


def test_a_caller_has_the_same_hash_wherever_the_secret_is_the_same():
    here, there, other = Callers("s"), Callers("s"), Callers("t")
    assert re.fullmatch("[0-9a-f]{16}", here.hashed("127.0.0.1"))
    assert here.hashed("127.0.0.1") == there.hashed("127.0.0.1") != other.hashed("127.0.0.1")
    assert here.hashed("127.0.0.1") != here.hashed("127.0.0.2")
    assert Callers("").hashed("127.0.0.1") != here.hashed("127.0.0.1")


def test_one_ipv6_network_is_one_caller():
    callers = Callers("s")
    assert callers.hashed("2001:db8::1") == callers.hashed("2001:db8::2:3") != callers.hashed("2001:db8:1::1")
