"""Media on the loop thread: local tracks shared by calls, encoding, received tracks."""
