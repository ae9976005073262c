from bench.clock import processor_time


def test_the_works_take_turns():
    calls = []
    seconds = processor_time(lambda: calls.append("a"), lambda: calls.append("b"), rounds=2, calls=2)
    assert "".join(calls) == "aabbaabb"
    assert len(seconds) == 2
    assert all(0 <= value < float("inf") for value in seconds)
