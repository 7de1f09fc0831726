"""What becomes of a flow after a run, case by case."""

import pytest

from bakflow import errors
from bakflow.conductor import decisions
from bakflow.states import Direction, Flow

FORWARD, REVERT = Direction.FORWARD, Direction.REVERT
TRANSIENT = errors.CloudUnavailable('503')
QUOTA = errors.QuotaReached('413')
FATAL = errors.StoreFull('full')

CASES = [
    # direction, error, attempts, on_failure, committed
    #   -> status, direction, delay, attempts
    ((FORWARD, None, 0, 'hold', True), (Flow.DONE, FORWARD, 0, 0)),
    ((REVERT, None, 3, 'hold', False), (Flow.REVERTED, REVERT, 0, 0)),
    ((FORWARD, errors.Interrupted('x'), 2, 'hold', False),
     (Flow.QUEUED, FORWARD, 0, 2)),
    ((REVERT, errors.Interrupted('x'), 2, 'revert', False),
     (Flow.QUEUED, REVERT, 0, 2)),
    ((FORWARD, errors.Cancelled('x'), 0, 'hold', False),
     (Flow.QUEUED, REVERT, 0, 0)),
    # past the head a cancel means: finish the cleanup
    ((FORWARD, errors.Cancelled('x'), 0, 'hold', True),
     (Flow.QUEUED, FORWARD, 0, 0)),
    ((FORWARD, TRANSIENT, 0, 'hold', False), (Flow.QUEUED, FORWARD, 15, 1)),
    ((FORWARD, TRANSIENT, 3, 'hold', False),
     (Flow.QUEUED, FORWARD, 120, 4)),
    ((FORWARD, TRANSIENT, 5, 'hold', False), (Flow.HELD, FORWARD, 0, 5)),
    ((FORWARD, TRANSIENT, 5, 'revert', False),
     (Flow.QUEUED, REVERT, 0, 0)),
    ((FORWARD, QUOTA, 0, 'hold', False), (Flow.QUEUED, FORWARD, 900, 1)),
    ((FORWARD, FATAL, 0, 'hold', False), (Flow.HELD, FORWARD, 0, 0)),
    ((FORWARD, FATAL, 0, 'revert', False), (Flow.QUEUED, REVERT, 0, 0)),
    # a good backup is never spoilt
    ((FORWARD, FATAL, 0, 'revert', True), (Flow.HELD, FORWARD, 0, 0)),
    ((REVERT, FATAL, 0, 'revert', False), (Flow.HELD, REVERT, 0, 0)),
]


@pytest.mark.parametrize(('given', 'expected'), CASES)
def test_decision(given, expected):
    direction, error, attempts, on_failure, committed = given
    found = decisions.after(
        direction=direction, error=error, attempts=attempts,
        on_failure=on_failure, committed=committed, max_attempts=5,
        retry_delay=15)
    assert (found.status, found.direction, found.delay,
            found.attempts) == expected
    assert found.error is error or error is None or isinstance(
        error, errors.Interrupted | errors.Cancelled)
