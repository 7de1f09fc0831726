"""Every status, and one table of the moves that are allowed.

A status is changed only by a guarded UPDATE that names the status before, and
only along this table: see :func:`check`.
"""

from __future__ import annotations

import enum


class Backup(enum.StrEnum):
    """Status of a backup."""

    QUEUED = 'queued'
    RUNNING = 'running'
    AVAILABLE = 'available'     #: durable in the store, its head read back
    ERROR = 'error'             #: nothing usable; the row tells why
    DAMAGED = 'damaged'         #: verify found a wrong or missing object
    DELETING = 'deleting'
    DELETED = 'deleted'


class Restore(enum.StrEnum):
    """Status of a restore."""

    QUEUED = 'queued'
    RUNNING = 'running'
    DONE = 'done'
    ERROR = 'error'


class Flow(enum.StrEnum):
    """Status of a flow. ``queued`` may be claimed by any conductor."""

    QUEUED = 'queued'
    RUNNING = 'running'
    DONE = 'done'
    HELD = 'held'               #: waits for an operator; nothing is reverted
    REVERTED = 'reverted'


class Direction(enum.StrEnum):
    """Which way a flow runs."""

    FORWARD = 'forward'
    REVERT = 'revert'


class Temporary(enum.StrEnum):
    """Status of a ledger row."""

    INTENDED = 'intended'       #: written before the cloud is asked
    LIVE = 'live'               #: made; its id is known
    RELEASING = 'releasing'     #: its deletion was begun
    GONE = 'gone'               #: seen to be gone
    ORPHANED = 'orphaned'       #: resisted deletion: audit names it
    ABSENT = 'absent'           #: looked for, and never made
    KEPT = 'kept'               #: became the user's: a restored volume


ALLOWED: dict[type[enum.StrEnum], set[tuple[str, str]]] = {
    Backup: {
        ('queued', 'running'), ('queued', 'error'), ('running', 'error'),
        ('running', 'available'),
        ('available', 'deleting'), ('available', 'damaged'),
        ('damaged', 'available'), ('damaged', 'deleting'),
        ('error', 'deleting'), ('error', 'deleted'), ('deleting', 'deleted'),
        ('deleting', 'available'), ('deleting', 'damaged'),
        ('deleting', 'error')},
    Restore: {
        ('queued', 'running'), ('queued', 'error'), ('running', 'done'),
        ('running', 'error')},
    Flow: {
        ('queued', 'running'), ('running', 'queued'), ('running', 'done'),
        ('running', 'held'), ('running', 'reverted'), ('held', 'queued'),
        ('running', 'running')},        # taken from a dead conductor
    Temporary: {
        ('intended', 'live'), ('intended', 'absent'),
        ('intended', 'releasing'), ('live', 'releasing'), ('live', 'kept'),
        ('releasing', 'gone'), ('releasing', 'orphaned'),
        ('orphaned', 'releasing'), ('orphaned', 'gone'),
        ('live', 'gone')},              # vanished under us
}


def check(before: enum.StrEnum, after: enum.StrEnum) -> None:
    """Refuse a move that the table does not have.

    :raises ValueError: a bug of the caller, never of the input.
    """
    if (before.value, after.value) not in ALLOWED[type(before)]:
        raise ValueError(f'{type(before).__name__} may not go from '
                         f'{before} to {after}')
