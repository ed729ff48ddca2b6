"""What is different in a notebook: a cell that connects is run again and again; user threads."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from artico_sync.artico import Artico

logger = logging.getLogger("artico_sync.notebook")

# Seconds the calls of a client that a cell made earlier get to deliver what was sent.
CLOSE_TIMEOUT = 2.0


def close_former(rtco: Artico) -> None:
    """Close the client that an earlier run of the cell left behind with the id that `rtco` wants.

    Only clients the notebook's own variables hold are looked at; outside IPython nothing happens.
    """
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is None:
        return
    for value in list(shell.user_ns.values()):
        if isinstance(value, type(rtco)) and value is not rtco and value._stands_for(rtco):
            logger.info("closing the client that holds the id %s since an earlier run", rtco.id)
            value.close(CLOSE_TIMEOUT)
