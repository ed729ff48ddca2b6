"""The part of a call that shares audio and video; user threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync._bridge.call import CallBridge
from artico_sync._protocol.messages import stream_metadata_message
from artico_sync._protocol.settings import Settings
from artico_sync.media.remote import RemoteMediaStream
from artico_sync.media.streams import MediaStream, Track, check_track, has_ended

if TYPE_CHECKING:
    from artico_sync._bridge.media import ReceivedTrack
    from artico_sync.media.remote import RemoteTrack


class RemoteMediaFactory:
    """Makes the users' objects of what a peer shares; loop thread."""

    def stream(self, stream_id: str, metadata: str | None) -> RemoteMediaStream:
        return RemoteMediaStream(stream_id, metadata)

    def describe(self, stream: RemoteMediaStream, metadata: str | None) -> None:
        stream._describe(metadata)

    def track(
        self, track: ReceivedTrack, stream: RemoteMediaStream, post: Callable[..., None]
    ) -> RemoteTrack:
        from artico_sync.media.remote import make_remote_track

        return make_remote_track(track, stream, post)

    def add(self, stream: RemoteMediaStream, track: RemoteTrack) -> None:
        stream._add(track)

    def remove(self, stream: RemoteMediaStream, track: RemoteTrack) -> None:
        stream._remove(track)


class MediaSharing:
    """Adds, removes and replaces what this side shares, and shows what the peer shares."""

    def __init__(self, bridge: CallBridge) -> None:
        self.__bridge = bridge

    def add_stream(self, stream: MediaStream, metadata: str | None = None) -> None:
        """Share a stream with the peer, who gets a `stream` and a `track` event for each track.

        Returns at once; before the call is open, the stream is shared as soon as it is.

        Example:
            >>> camera = VideoTrack(fps=15)
            >>> call.add_stream(MediaStream([camera]), metadata="from the roof")
            >>> incoming.wait_for("stream", timeout=5).metadata
            'from the roof'

        Args:
            stream: What to share, with at least one track.
            metadata: Shown to the peer with the stream.

        Raises:
            TypeError: Not a `MediaStream`, or metadata that is not a str.
            ValueError: The stream has no tracks; the metadata does not fit into one message of
                262 144 bytes, as JSON, or is no valid Unicode.
            InvalidStateError: One of its tracks is shared on this call already.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        if not isinstance(stream, MediaStream):
            raise TypeError(f"stream must be a MediaStream, not {type(stream).__name__}")
        if metadata is not None and not isinstance(metadata, str):
            raise TypeError(f"metadata must be a str or None, not {type(metadata).__name__}")
        if not stream.tracks:
            raise ValueError("the stream has no tracks to share")
        if metadata is not None:
            # Surrogates that stand alone cannot be sent.
            metadata.encode()
            size = len(stream_metadata_message(stream.id, metadata))
            if size > Settings.maximum_message:
                raise ValueError(
                    f"the metadata takes {size} bytes on the wire, more than"
                    f" {Settings.maximum_message}: send what is that large as a message"
                )
        self.__share(stream.id, metadata, stream.tracks)

    def add_track(self, track: Track, stream: MediaStream) -> None:
        """Share one track with the peer, as part of a stream; returns at once.

        Example:
            >>> call.add_track(VideoTrack(fps=15), MediaStream(id="desk"))
            >>> incoming.wait_for("track", timeout=5).stream.id
            'desk'

        Args:
            track: A local track of ours, a remote one of any call, or an `aiortc.MediaStreamTrack`.
            stream: The stream it is to belong to at the other end; the object itself does not
                change.

        Raises:
            TypeError: Not a track, or not a `MediaStream`.
            InvalidStateError: The track is shared on this call already.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_track(track)
        if not isinstance(stream, MediaStream):
            raise TypeError(f"stream must be a MediaStream, not {type(stream).__name__}")
        self.__share(stream.id, None, (track,))

    def __share(self, stream_id: str, metadata: str | None, tracks: tuple[Track, ...]) -> None:
        self.__bridge.check_live()
        self.__bridge.shared_tracks.add(stream_id, metadata, tracks, has_ended)

    def remove_stream(self, stream: MediaStream) -> None:
        """Share a stream no longer; the peer gets `removetrack` for each track and `removestream`.

        Its tracks go on for other calls; `stop()` of the stream ends them.

        Example:
            >>> stream = MediaStream([VideoTrack(fps=15)], id="desk")
            >>> call.add_stream(stream)
            >>> incoming.wait_for("stream", timeout=5).id
            'desk'
            >>> call.remove_stream(stream)
            >>> incoming.wait_for("removestream", timeout=5).id
            'desk'

        Args:
            stream: One given to `add_stream`, or to `add_track` with a track.

        Raises:
            TypeError: Not a `MediaStream`.
            ValueError: The stream is not shared on this call.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        if not isinstance(stream, MediaStream):
            raise TypeError(f"stream must be a MediaStream, not {type(stream).__name__}")
        self.__bridge.check_live()
        self.__bridge.shared_tracks.remove_stream(stream.id)

    def remove_track(self, track: Track) -> None:
        """Share one track no longer; the peer gets `removetrack`, and `removestream` with the last.

        Example:
            >>> camera = VideoTrack(fps=15)
            >>> call.add_track(camera, MediaStream())
            >>> incoming.wait_for("track", timeout=5).ended
            False
            >>> call.remove_track(camera)
            >>> incoming.wait_for("removetrack", timeout=5).ended
            True

        Args:
            track: One that is shared on this call, alone or with its stream.

        Raises:
            TypeError: Not a track.
            ValueError: The track is not shared on this call.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_track(track)
        self.__bridge.check_live()
        self.__bridge.shared_tracks.remove(track)

    def replace_track(self, old: Track, new: Track) -> None:
        """Send another track of the same kind in the place of one, without telling the peer (W3C
        WebRTC, RTCRtpSender.replaceTrack).

        In the place of one that has ended already, and so has gone for the peer, the new one comes
        as another track of the same stream.

        Example:
            >>> camera, slides = VideoTrack(fps=15), VideoTrack(fps=1)
            >>> call.add_stream(MediaStream([camera]))
            >>> call.replace_track(camera, slides)
            >>> incoming.wait_for("track", timeout=5).id == camera.id
            True

        Args:
            old: A track shared on this call.
            new: Takes its place; the peer goes on seeing the old one's id.

        Raises:
            TypeError: Not tracks.
            ValueError: `old` is not shared on this call, or the kinds differ.
            InvalidStateError: `new` is shared on this call already.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_track(old)
        check_track(new)
        if old.kind != new.kind:
            raise ValueError(
                f"a track of kind {old.kind} cannot be replaced by one of kind {new.kind}"
            )
        self.__bridge.check_live()
        self.__bridge.shared_tracks.replace(old, new)

    @property
    def streams(self) -> tuple[RemoteMediaStream, ...]:
        """The streams the peer shares with us now.

        Raises:
            ForkError: The call was made in another process.
        """
        self.__bridge.guard.check()
        return self.__bridge.received_streams.streams
