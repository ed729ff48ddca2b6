"""The place where user threads and the loop thread meet: portal, mailboxes, dispatchers, waits.

Lock order of the whole library, by the modules that make the locks: a thread that holds one takes
only locks of modules further down, or others of the same module as that module says.
`tests/faults/lock_order.py` holds the library to it.

- Held while waiting, and so never taken on the loop thread: `server.server`,
  `contrib.process_client`, `contrib.django.answering`, `media.streams`, `media.tracks`,
  `_webrtc._aiortc.players`, `files.receiver`, `cli.output`, `cli.chat`, `testing.peers`,
  `_bridge.signaling`.
- From here on no thread waits, and no code of the user runs, under a lock: `media.remote`,
  `signaling`.
- `_bridge.call`, `_bridge.client`, `media._recording`, `media._sources`.
- `_bridge.events.mailbox`, `_bridge.streams`, `media._playback`.
- `_bridge.events.dispatcher`.
- Nothing else is taken under these: `_bridge.portal`, `_speedups.wake_up`,
  `_speedups.thread_scheduling`, `_bridge.threads`, `_bridge.waiting.interrupt_safe`, `_notebook`,
  `janus`.
"""
