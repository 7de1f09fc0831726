"""Chooses oslo.service's threading backend; imported before oslo.messaging.

oslo.messaging imports oslo.service, which takes eventlet unless somebody has
chosen. Choosing twice raises, so it is done here, in one place, once.
"""

from __future__ import annotations

import os
import warnings

warnings.filterwarnings('ignore', message=r'\s*[Ee]ventlet')

# futurist imports eventlet where it is installed; nobody needs its DNS.
os.environ.setdefault('EVENTLET_NO_GREENDNS', 'yes')

from oslo_service import backend  # noqa: E402

backend.init_backend(backend.BackendType.THREADING)
