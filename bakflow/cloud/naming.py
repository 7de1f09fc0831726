"""How bakflow knows its own resources in the cloud.

Name and metadata are derived from the ledger row that is written before the
resource is asked for. So after a crash, or a lost answer, a look at the
cloud tells whether the resource was made, and by whom.
"""

from __future__ import annotations

import dataclasses
import re

from bakflow.cloud.resources import Resource

#: The tag of every image made by bakflow.
IMAGE_TAG = 'bakflow'

_DEPLOYMENT = 'bakflow_deployment'
_OWNER = 'bakflow_owner'
_FLOW = 'bakflow_flow'
_ROLE = 'bakflow_role'
_NAME = re.compile(r'bakflow-'
                   r'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-'
                   r'([a-z][a-z0-9_]*)(?:-([1-9][0-9]{0,8}))?')
_ROLE_PATTERN = re.compile(r'[a-z][a-z0-9_]*')


@dataclasses.dataclass(frozen=True)
class Tag:
    """Whose resource it is and what for.

    :param deployment: id of the bakflow database.
    :param owner: id of the backup or restore (a UUID).
    :param flow: id of the flow.
    :param role: ``snapshot``, ``volume``, ``image``, ``volume2`` ...
    :param ordinal: 0, or 1, 2 ... when an earlier one had to be given up.
    """

    deployment: str
    owner: str
    flow: str
    role: str
    ordinal: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f'{self.name!r} would not be known again')

    @property
    def name(self) -> str:
        """The name of the resource."""
        suffix = f'-{self.ordinal}' if self.ordinal else ''
        return f'bakflow-{self.owner}-{self.role}{suffix}'

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of a volume or snapshot, properties of an image."""
        return {_DEPLOYMENT: self.deployment, _OWNER: self.owner,
                _FLOW: self.flow, _ROLE: self.role}

    @property
    def by_name_only(self) -> bool:
        """Only the name says that it is bakflow's, and not whose.

        So is an image just made by upload-to-image, until it is patched.
        """
        return not self.deployment

    def fits(self, resource: Resource) -> bool:
        """Whether the resource is exactly the one of this tag."""
        return (resource.name == self.name
                and self.metadata.items() <= resource.metadata.items())


def parse(resource: Resource) -> Tag | None:
    """The tag that a resource bears, of whatever deployment, or None.

    Without any metadata of bakflow's but with a name of its pattern the tag
    has an empty deployment and flow: see :attr:`Tag.by_name_only`.
    """
    named = _NAME.fullmatch(resource.name)
    meta = resource.metadata
    if _DEPLOYMENT in meta:
        role = meta.get(_ROLE, '')
        if not _ROLE_PATTERN.fullmatch(role):
            return None
        ordinal = int(named[3] or 0) if named else 0
        try:
            return Tag(meta[_DEPLOYMENT], meta.get(_OWNER, ''),
                       meta.get(_FLOW, ''), role, ordinal)
        except ValueError:
            return None
    if named is None or not untagged(resource):
        return None
    return Tag('', named[1], '', named[2], int(named[3] or 0))


def ours(resource: Resource, deployment: str) -> Tag | None:
    """The tag, when the resource is of this deployment or by name only."""
    tag = parse(resource)
    if tag is None or tag.deployment in (deployment, ''):
        return tag
    return None


def untagged(resource: Resource) -> bool:
    """Whether nothing in its metadata is bakflow's."""
    return not any(key.startswith('bakflow_') for key in resource.metadata)
