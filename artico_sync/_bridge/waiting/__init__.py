"""How user threads wait, and how they are woken."""
