"""Who may do what: defaults of oslo.policy, and the one check."""

from __future__ import annotations

import threading
from typing import Any

from oslo_config import cfg
from oslo_policy import policy

from bakflow import errors

READER = 'role:reader or role:member or role:admin'
MEMBER = 'role:member or role:admin'
ADMIN = 'role:admin'

_RULES = (
    ('backup:create', MEMBER, 'Back up a volume of the own project'),
    ('backup:list', READER, 'List backups of the own project'),
    ('backup:show', READER, 'Show a backup of the own project'),
    ('backup:delete', MEMBER, 'Delete a backup of the own project'),
    ('backup:verify', MEMBER, 'Verify a backup of the own project'),
    ('restore:create', MEMBER, 'Restore a backup of the own project'),
    ('restore:list', READER, 'List restores of the own project'),
    ('restore:show', READER, 'Show a restore of the own project'),
    ('flow:list', READER, 'List flows of the own project'),
    ('flow:show', READER, 'Show a flow of the own project'),
    ('flow:resume', MEMBER, 'Resume a flow of the own project'),
    ('flow:abandon', MEMBER, 'Abandon a flow of the own project'),
    ('flow:cancel', MEMBER, 'Cancel a flow of the own project'),
    ('target:list', READER, 'List and show targets'),
    ('target:check', ADMIN, 'Try what is needed of a target'),
    ('target:collect', ADMIN, 'Free what no backup needs'),
    ('audit', ADMIN, 'Compare cloud, ledger and stores'),
    ('status', READER, 'Ask what is at work'),
    ('all_projects', ADMIN, 'See what belongs to other projects'),
)

_enforcer: policy.Enforcer | None = None
_lock = threading.Lock()


def list_rules() -> list[Any]:
    """All rules, for the sample policy file."""
    return [policy.RuleDefault(name, check, description)
            for name, check, description in _RULES]


def authorize(context: Any, rule: str) -> None:
    """Check a rule.

    :raises Forbidden: policy says no.
    """
    global _enforcer
    with _lock:
        if _enforcer is None:
            made = policy.Enforcer(cfg.CONF)
            made.register_defaults(list_rules())
            _enforcer = made
    if not _enforcer.authorize(rule, {'project_id': context.project_id},
                               context):
        raise errors.Forbidden(
            f'policy does not allow {rule} to {context.user_id or "you"}',
            hint='the rule stands in policy.yaml')
