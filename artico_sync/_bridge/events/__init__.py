"""Events on their way from the loop thread to handlers and waiting threads."""
