"""What becomes of a flow after a run: one pure function."""

from __future__ import annotations

import dataclasses

from bakflow import errors, states

D, F = states.Direction, states.Flow

#: Seconds between attempts when somebody has to make room (quota).
_LATER = 900
_LONGEST = 900


@dataclasses.dataclass(frozen=True)
class Decision:
    """The flow's next status.

    :ivar delay: seconds until it may be claimed again.
    """

    status: states.Flow
    direction: states.Direction
    delay: float = 0
    attempts: int = 0
    error: errors.BakflowError | None = None


def after(*, direction: states.Direction, error: errors.BakflowError | None,
          attempts: int, max_attempts: int, retry_delay: float,
          on_failure: str, committed: bool) -> Decision:
    """Finish, try again with a delay, hold for the operator, or revert.

    :param attempts: new attempts made so far for transient failures.
    :param committed: past the point of no return nothing is reverted:
        what is left to do is the cleanup.
    """
    if error is None:
        if direction is D.FORWARD:
            return Decision(F.DONE, direction)
        return Decision(F.REVERTED, direction)
    if isinstance(error, errors.Interrupted):
        return Decision(F.QUEUED, direction, attempts=attempts)
    if isinstance(error, errors.Cancelled):
        # Past the point of no return: go on with the cleanup, unasked.
        return (Decision(F.QUEUED, direction) if committed
                else Decision(F.QUEUED, D.REVERT, error=error))
    if error.retry is not errors.Retry.NEVER and attempts < max_attempts:
        delay = (_LATER if error.retry is errors.Retry.LATER
                 else min(retry_delay * 2 ** attempts, _LONGEST))
        return Decision(F.QUEUED, direction, delay, attempts + 1, error)
    if on_failure == 'revert' and direction is D.FORWARD and not committed:
        return Decision(F.QUEUED, D.REVERT, error=error)
    return Decision(F.HELD, direction, attempts=attempts, error=error)
