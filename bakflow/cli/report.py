"""Failures as people read them: cause, resource, request id, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from bakflow import errors
from bakflow.cli import text


class UsageError(errors.InvalidRequest):
    """The command line asks for what cannot be; nothing was begun."""

    code = 'usage'


class FlowFailed(errors.BakflowError):
    """A flow did not end as the command was asked to make it end.

    :param fallback: the message, when the flow has no error of its own.
    :ivar flow: the last look at it.
    """

    code = 'flow-failed'

    def __init__(self, flow: Mapping[str, Any],
                 fallback: str | None = None) -> None:
        error = flow.get('error') or {}
        message = (error.get('message') or fallback
                   or f'flow {flow["id"]} is {flow["status"]}')
        left = orphans(flow)
        if left:
            message += f'; {left} of its temporaries could not be deleted'
        super().__init__(
            message,
            hint=error.get('hint'), resource=error.get('resource'),
            request_id=error.get('request_id'))
        self.flow = flow


class Stopped(Exception):
    """The user does not want to wait any longer.

    :ivar exit_code: 128 and the number of the signal.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__('stopped')
        self.exit_code = exit_code


def write(out: TextIO, error: errors.BakflowError) -> None:
    """The error and how to go on, on several aligned lines."""
    rows: list[tuple[str, str]] = []
    if error.resource:
        rows.append(('resource', error.resource))
    if error.request_id:
        rows.append(('request id', error.request_id))
    if error.hint:
        rows.append(('what to do', error.hint))
    if isinstance(error, FlowFailed):
        rows += next_steps(error.flow)
    out.write(f'error: {text.clean(error.message, lines=True)}\n')
    for label, value in rows:
        out.write(f'  {label + ":":<12}{text.clean(value)}\n')
    out.flush()


def next_steps(flow: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Commands for a flow that has not ended as it should."""
    flow_id = flow['id']
    left = orphans(flow)
    if flow.get('status') in ('done', 'reverted'):
        rows = [('flow', f'{flow_id}, {flow["status"]}' + (
            ': nothing of it is left'
            if flow['status'] == 'reverted' and not left else ''))]
        if left:
            rows.append(('delete', 'bakflow audit --fix'))
        return rows
    rows = [('flow', f'{flow_id}, {flow.get("status")}'),
            ('go on', f'bakflow flow resume {flow_id}')]
    if flow.get('committed'):
        return rows
    if flow.get('direction') != 'revert':
        rows.append(('undo', f'bakflow flow abandon {flow_id}'))
    return rows


def orphans(flow: Mapping[str, Any]) -> int:
    """How many temporaries resisted their deletion."""
    return sum(t.get('status') == 'orphaned'
               for t in flow.get('temporaries') or ())
