"""Where threads meet, and the only place: the loop thread, janus mailboxes, the dispatcher.

Lock order of the whole library, by the modules that make the locks: who holds one takes only ones
of modules further down, or others of the same module as that says. `tests/faults/lock_order.py`
holds the library to it.

- Held while waiting, and so never taken on the loop thread: `server.server`,
  `contrib.process_client`, `contrib.django.answering`, `media.recorder`, `media.local`,
  `_webrtc._aiortc.players`, `files.receiver`, `cli.output`, `cli.chat`, `testing.fake_peer`,
  `_bridge.socket_signaling`.
- From here on nobody waits, and nothing of the user's runs, under a lock: `sharing`,
  `media.streams`, `signaling`, `memory_signaling`.
- `_bridge.call`, `_bridge.client`, `_bridge.media`, `media.recording`, `media.sources`.
- `_bridge.events.mailbox`, `_bridge.frame_reader`, `media.playback`.
- `_bridge.events.dispatcher`.
- Nothing else is taken under these: `_bridge.portal`, `_speedups.wake_up`,
  `_speedups.switch_interval`, `_bridge.executor`, `_bridge.workers`,
  `_bridge.waiting.interrupt_safe`, `_notebook`, `janus`.
"""
