"""The conductor: claims flows, runs each in a thread, renews their leases.

What it does survives its death: a claimed flow's lease runs out and another
conductor goes on with it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log as logging

from bakflow import errors, fault, states, store
from bakflow.cloud import session as cloud_session
from bakflow.conductor import decisions
from bakflow.conductor.targets import Targets
from bakflow.conductor.watch import Watch
from bakflow.db import claims, models, records
from bakflow.db.engine import Database
from bakflow.db.ledger import Ledger
from bakflow.engine import runner
from bakflow.tasks import context as steps

LOG = logging.getLogger(__name__)

_OPTIONS = ('snapshot_timeout', 'volume_timeout', 'image_timeout',
            'delete_timeout', 'ambiguity_grace', 'image_format')


class Conductor:
    """Runs flows until it is stopped.

    :param only: the ids of the flows that it may take, as they are added;
        None means all. An embedded conductor runs only what was asked of
        its own process.
    """

    def __init__(self, conf: cfg.ConfigOpts, db: Database,
                 targets: Targets, only: set[str] | None = None) -> None:
        self.conf = conf
        self.db = db
        self.targets = targets
        self.only = only
        self.owner = (f'{socket.gethostname()}:{os.getpid()}:'
                      f'{process_start(os.getpid())}:{uuid.uuid4().hex[:6]}')
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._watches: dict[str, Watch] = {}
        self._lock = threading.Lock()
        self._cloud: cloud_session.Cloud | None = None
        self._cloud_lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        store.buffers.configure(conf.conductor.buffer_mib << 20)

    # -- life -------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for work."""
        for name, loop in (('claims', self._claim_loop),
                           ('leases', self._renew_loop)):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self, flow_id: str | None = None) -> None:
        """There may be work: look now."""
        if flow_id is not None and self.only is not None:
            self.only.add(flow_id)
        self._woken.set()

    def stop(self, timeout: float = 10) -> None:
        """Stop flows at their next chunk, release the leases, and end.

        Nothing is reverted. A flow that does not hear within ``timeout``
        seconds keeps its lease until it runs out.
        """
        self._stopping.set()
        self._woken.set()
        with self._lock:
            for watch in self._watches.values():
                watch.tell()
        end = time.monotonic() + timeout
        # First the claims, which may just have taken one more flow; the
        # leases last as long as there are flows.
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        while self._watches and time.monotonic() < end:
            time.sleep(0.02)
        if self._cloud is not None:
            self._cloud.close()

    @property
    def running(self) -> list[str]:
        """Ids of the flows that run here."""
        with self._lock:
            return list(self._watches)

    def cloud(self) -> cloud_session.Cloud:
        """The configured cloud, logged in once."""
        with self._cloud_lock:
            if self._cloud is None:
                self._cloud = cloud_session.connect(self.conf)
            return self._cloud

    # -- loops ------------------------------------------------------------

    def _claim_loop(self) -> None:
        while not self._stopping.is_set():
            taken = None
            try:
                taken = self._take()
            except sa.exc.SQLAlchemyError as exc:
                LOG.warning('The database cannot be asked for work: %s',
                            type(exc).__name__)
            except Exception:   # noqa: BLE001 - the loop must not end
                LOG.exception('Looking for work failed')
            if taken is None:
                self._woken.wait(self.conf.conductor.poll)
                self._woken.clear()
                continue
            watch = Watch(taken, self._stopping, self.conf.conductor.lease)
            with self._lock:
                self._watches[taken.claim.flow_id] = watch
            threading.Thread(
                target=self._drive, args=(watch,), daemon=True,
                name=f'flow-{taken.claim.flow_id[:8]}').start()

    def _take(self) -> claims.Taken | None:
        if len(self._watches) >= self.conf.conductor.max_flows:
            return None
        if self.only is not None and not self.only:
            return None
        return claims.take(self.db, self.owner, self.conf.conductor.lease,
                           None if self.only is None else set(self.only))

    def _renew_loop(self) -> None:
        """Also hears of cancellations; once a second that is quick."""
        lease = self.conf.conductor.lease
        every = min(1.0, self.conf.conductor.heartbeat)
        while not self._stopping.wait(every) or self._watches:
            with self._lock:
                watches = list(self._watches.values())
            for watch in watches:
                try:
                    cancel = claims.renew(self.db, watch.claim, lease)
                except sa.exc.SQLAlchemyError as exc:
                    LOG.warning('The lease of flow %s cannot be renewed: %s',
                                watch.claim.flow_id, type(exc).__name__)
                    continue
                if cancel is not None:
                    watch.renewed = time.monotonic()
                watch.tell(lost=cancel is None, cancel=bool(cancel))
            if self._stopping.is_set():
                time.sleep(0.05)

    # -- one flow ---------------------------------------------------------

    def _drive(self, watch: Watch) -> None:
        flow_id = watch.claim.flow_id
        try:
            with self._bound(watch):
                outcome = runner.run(self.db, watch.taken)
            fault.point(f'settle:{watch.taken.direction}')
            self._settle(watch, outcome)
        except errors.LeaseLost as exc:
            LOG.warning('%s: this conductor writes nothing more', exc)
        except sa.exc.SQLAlchemyError:
            LOG.exception('The database failed; flow %s goes on when its '
                          'lease has run out', flow_id)
        finally:
            with self._lock:
                # The next run of this flow may have begun here already.
                if self._watches.get(flow_id) is watch:
                    del self._watches[flow_id]
            self._woken.set()

    @contextlib.contextmanager
    def _bound(self, watch: Watch) -> Iterator[None]:
        taken = watch.taken
        rows = records.Records(self.db, watch.claim)
        context = steps.StepContext(
            flow_id=watch.claim.flow_id, epoch=watch.claim.epoch,
            owner_id=taken.owner_id, project_id=taken.project_id,
            deployment=self.db.deployment, request=taken.request,
            ledger=Ledger(self.db, watch.claim, owner_id=taken.owner_id,
                          cloud=taken.cloud),
            records=rows, targets=self.targets,
            connect=lambda: self._cloud_of(taken), pause=watch.pause,
            options={name: self.conf.conductor[name]
                     for name in _OPTIONS})
        steps.bind(context)
        try:
            yield
        finally:
            steps.unbind(watch.claim.flow_id, context)

    def _cloud_of(self, taken: claims.Taken) -> cloud_session.Cloud:
        cloud = self.cloud()
        if taken.cloud is not None and str(cloud.key) != taken.cloud:
            raise errors.WrongCloud(
                f'the flow belongs to {taken.cloud}, and {cloud.key} is '
                f'configured', hint='resume it with the OS_CLOUD that it '
                                    'was started with')
        return cloud

    def _settle(self, watch: Watch, outcome: runner.Outcome) -> None:
        if outcome.error is None and (
                outcome.direction is states.Direction.REVERT):
            self._mark_reverted(watch)
        after = claims.settle(
            self.db, watch.claim,
            lambda row: self._decide(watch.taken, outcome, row))
        if self.only is not None and after is not states.Flow.QUEUED:
            self.only.discard(watch.claim.flow_id)

    def _decide(self, taken: claims.Taken, outcome: runner.Outcome,
                row: models.Flow) -> tuple[states.Flow, dict[str, object]]:
        error = outcome.error
        if error is not None and row.cancel and not row.committed and (
                outcome.direction is states.Direction.FORWARD):
            # It failed before it had heard of the cancel.
            error = errors.Cancelled(f'flow {row.id} was cancelled')
        decision = decisions.after(
            direction=outcome.direction, error=error,
            attempts=taken.attempts, committed=row.committed,
            max_attempts=self.conf.conductor.max_attempts,
            retry_delay=self.conf.conductor.retry_delay,
            on_failure=taken.on_failure)
        values: dict[str, object] = {
            'attempts': decision.attempts,
            'direction': decision.direction.value,
            'run_after': models.now_ms() + int(decision.delay * 1000)}
        if decision.error is not None and not (
                row.error and outcome.direction is states.Direction.REVERT):
            values['error'] = decision.error.to_dict()
        elif decision.status is states.Flow.DONE:
            values['error'] = None
        if decision.status in (states.Flow.DONE, states.Flow.REVERTED):
            values['finished_at'] = models.now_ms()
            values['cancel'] = False
        return decision.status, values

    def _mark_reverted(self, watch: Watch) -> None:
        """Also when the flow was abandoned before its first step."""
        rows = records.Records(self.db, watch.claim)
        kind = watch.taken.kind
        if kind == 'volume-backup':
            rows.backup_error(watch.taken.owner_id)
        elif kind.startswith('restore-'):
            rows.restore_error(watch.taken.owner_id)


def process_start(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if unknown.

    Field 22 of /proc/PID/stat (proc(5)): tells a process from a later one
    of the same number.
    """
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            fields = file.read().rpartition(b')')[2].split()
        # A zombie runs no more, whoever has yet to wait for it.
        return 0 if fields[0] in (b'Z', b'X') else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def is_dead(owner: str | None) -> bool:
    """Whether the conductor of this name certainly does not run any more.

    Only a process of this host can be known to be dead; for others the
    lease decides.
    """
    if owner is None:
        return True
    host, pid, start, _ = (owner.split(':') + ['', '', ''])[:4]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return process_start(int(pid)) != int(start or 0)
