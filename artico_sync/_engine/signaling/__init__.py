"""Ways to carry signals between peers; loop thread."""
