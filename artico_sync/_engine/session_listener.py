"""Whom a session belongs to, and who is told what happens to it; loop thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from artico_sync._engine.call_state import CallState
from artico_sync._engine.peer_signaling import SignalSender
from artico_sync._engine.remote_media import RemoteStreamListener
from artico_sync._webrtc.dtls.transport import Certificate

if TYPE_CHECKING:
    from artico_sync._engine.session import Session


class SessionListener(Protocol):
    """Told what happens to a session; loop thread."""

    @property
    def received_streams(self) -> RemoteStreamListener: ...
    def on_call_state(
        self, phase: CallState, reason: str | None, detail: str | None, maximum_message: int
    ) -> None: ...
    def on_stats(self, numbers: dict[str, Any]) -> None: ...
    def on_event(self, name: str, *arguments: Any) -> None: ...
    def on_messages(self, messages: list[str | bytes]) -> None: ...
    def on_delivered(self, delivered: int) -> None: ...


class SessionHost(SignalSender, Protocol):
    """The client a session belongs to; loop thread."""

    def on_path_suspect(self) -> None: ...
    def on_session_closed(self, session: Session) -> None: ...
    def certificate(self) -> Certificate: ...
