"""How answers and errors cross the wire: the same on every transport.

oslo.messaging hands exceptions over as objects on ``fake://`` and as other
classes on RabbitMQ. So none crosses: an answer is data that says which.
"""

from __future__ import annotations

from typing import Any

from bakflow import errors


def answer(value: Any) -> dict[str, Any]:
    """What a method returned."""
    return {'value': value}


def failure(error: errors.BakflowError) -> dict[str, Any]:
    """What a method raised."""
    return {'error': error.to_dict()}


def open(found: Any) -> Any:
    """The value, or the error raised.

    :raises BakflowError: of the class that the server raised.
    """
    if isinstance(found, dict) and 'error' in found:
        raise errors.from_dict(found['error'])
    if not isinstance(found, dict) or 'value' not in found:
        raise errors.UnknownError('the conductor sent no answer of ours')
    return found['value']
