"""The last step of flows that made temporaries.

What cannot be deleted is ``orphaned`` in the ledger; the flow ends well,
since what it was for is done.
"""

from __future__ import annotations

from bakflow.tasks import releasing
from bakflow.tasks.base import Result, Step
from bakflow.tasks.context import StepContext


class ReleaseTemporaries(Step):
    """Deletes all that the flow's ledger still has, the newest first.

    So an image goes before its volume, and the volume before its snapshot;
    each is waited for.
    """

    def run(self, ctx: StepContext) -> Result:
        """Tell what has resisted."""
        left = [entry.name for entry in reversed(ctx.ledger.entries())
                if not releasing.release(ctx, entry)]
        return {'orphaned': left}
