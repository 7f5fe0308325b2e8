"""Threads that help while they are needed, and the rule by which they stay away on a loaded machine."""

import threading

from neuralparts.network.helper_threads import LONGEST_REST, SHORTEST_REST, HelperThreads, Rests


def test_each_helper_is_called_when_woken_and_ends_when_closed():
    before, numbers, called = threading.active_count(), [], threading.Semaphore(0)

    def help(number):
        numbers.append(number)
        called.release()

    helpers = HelperThreads(help, 3)
    for _ in range(2 * 3):
        while not called.acquire(timeout=0.01):
            helpers.wake()
    helpers.close()
    assert set(numbers) <= {1, 2, 3} and len(numbers) >= 6 and threading.active_count() == before


def steps_of_rest(rests):
    """Steps that go without helpers from now on."""
    count = 0
    while rests.is_resting:
        rests.count(1.0)
        count += 1
    return count


def test_slow_steps_send_the_helpers_to_rest_for_longer_and_longer():
    rests, found = Rests(), []
    rests.count(1.0)
    assert not rests.is_resting
    for _ in range(8):
        rests.count(5.0)
        found.append(steps_of_rest(rests))
    assert found[:3] == [SHORTEST_REST, 2 * SHORTEST_REST, 4 * SHORTEST_REST] and found[-1] == LONGEST_REST
    for _ in range(100):
        rests.count(2.0)  # not slow
    rests.count(5.0)
    assert steps_of_rest(rests) == SHORTEST_REST
