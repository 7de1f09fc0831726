"""Which kinds of flow there are. Each has a module that says its steps."""

from __future__ import annotations

from collections.abc import Callable

from taskflow.patterns import graph_flow

from bakflow import errors
from bakflow.flows import (
    backup_delete,
    backup_verify,
    restore_file,
    restore_image,
    restore_reimage,
    restore_volume,
    target_collect,
    volume_backup,
)

REGISTRY: dict[str, Callable[[str], graph_flow.Flow]] = {
    'volume-backup': volume_backup.build,
    'restore-volume': restore_volume.build,
    'restore-reimage': restore_reimage.build,
    'restore-image': restore_image.build,
    'restore-file': restore_file.build,
    'backup-delete': backup_delete.build,
    'backup-verify': backup_verify.build,
    'target-collect': target_collect.build,
}


def build(kind: str, flow_id: str) -> graph_flow.Flow:
    """The graph of a flow of this kind.

    :raises FlowChanged: this version does not know the kind.
    """
    if kind not in REGISTRY:
        raise errors.FlowChanged(
            f'this version of bakflow knows no flows of kind {kind}',
            hint='run it with the version that made it')
    return REGISTRY[kind](flow_id)
