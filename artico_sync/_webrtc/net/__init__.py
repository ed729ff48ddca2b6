"""UDP sockets."""
