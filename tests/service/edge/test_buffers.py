from service.edge.buffers import Buffers


class Holder:
    def __init__(self, name, evicted):
        self.name, self._evicted = name, evicted

    def evicted(self):
        self._evicted.append(self.name)


def test_who_stands_still_longest_makes_room():
    buffers, evicted = Buffers(100), []
    a, b, c = (Holder(name, evicted) for name in "abc")
    buffers.add(a, 40)
    buffers.add(b, 40)
    buffers.add(a, 10)
    buffers.add(c, 10)
    assert (buffers.total, evicted) == (100, [])
    buffers.add(c, 1)
    assert (buffers.total, evicted) == (61, ["b"])


def test_a_request_that_has_arrived_is_not_evicted():
    buffers, evicted = Buffers(100), []
    whole, late = Holder("whole", evicted), Holder("late", evicted)
    buffers.add(whole, 80)
    buffers.complete(whole)
    buffers.add(late, 30)
    assert (buffers.total, evicted) == (80, ["late"])
    buffers.free(whole)
    assert buffers.total == 0


def test_one_request_alone_may_have_more():
    buffers, evicted = Buffers(100), []
    alone = Holder("alone", evicted)
    buffers.add(alone, 500)
    assert (buffers.total, evicted) == (500, [])
    buffers.free(alone)
    buffers.free(alone)
    assert buffers.total == 0
