"""aiortc's constructor of a peer connection without the certificate it makes; loop thread.

A certificate costs as much as a good part of a call's whole set-up, and ours has one already, its
client's. The constructor is aiortc's own code, run with another meaning of one global name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import FunctionType

from aiortc import RTCConfiguration, RTCPeerConnection

logger = logging.getLogger(__name__)

#: What the constructor calls the class of certificates.
_NAME = "RTCCertificate"


class _NoCertificate:
    """Stands for aiortc's class of certificates."""

    @staticmethod
    def generateCertificate() -> None:
        """The caller of `construct` sets the certificate."""


def _make() -> Callable[[RTCPeerConnection, RTCConfiguration], None]:
    original = RTCPeerConnection.__init__
    if not isinstance(original, FunctionType) or _NAME not in original.__code__.co_names:
        logger.info(
            "each connection makes a certificate in vain: aiortc's constructor is new to us"
        )
        return original
    names = {**original.__globals__, _NAME: _NoCertificate}
    return FunctionType(
        original.__code__, names, "__init__", original.__defaults__, original.__closure__
    )


#: Does what `RTCPeerConnection.__init__` does, but for the certificate, which has to be set then.
construct = _make()
