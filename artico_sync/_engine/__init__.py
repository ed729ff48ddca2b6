"""Everything that runs on the loop thread: signalling, a call's life, negotiation, media."""
