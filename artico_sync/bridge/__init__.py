"""Where threads meet, and the only place: the loop thread, janus mailboxes, the dispatcher."""
