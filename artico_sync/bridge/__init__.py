"""Where threads meet, and the only place: the loop thread, janus mailboxes, the dispatcher.

Lock order of the whole library, by the modules that make the locks: who holds one takes only ones
of modules further down, or others of the same module as that says. `tests/faults/lock_order.py`
holds the library to it.

- Held while waiting, and so never taken on the loop thread: `artico_server`,
  `contrib.process_client`, `contrib.django.answering`, `media.recorder`, `media.local`,
  `engine.rtc.players`, `file_transfer.receiver`, `cli.output`, `cli.chat`, `testing.fake_peer`,
  `bridge.socket_port`.
- From here on nobody waits, and nothing of the user's runs, under a lock: `sharing`,
  `media.streams`, `signaling`, `memory_signaling`.
- `bridge.call_port`, `bridge.client_port`, `bridge.media_port`, `bridge.recording`,
  `bridge.production`.
- `bridge.mailbox`, `bridge.frames`, `bridge.playback`.
- `bridge.dispatcher`.
- Nothing else is taken under these: `bridge.loop`, `bridge.wake_up`, `bridge.switch_interval`,
  `bridge.executor`, `bridge.workers`, `bridge.interruptible`, `notebook`, `janus`.
"""
