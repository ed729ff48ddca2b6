"""System calls and settings that save time, each with a plain twin."""
