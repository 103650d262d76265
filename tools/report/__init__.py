"""The benchmark's files as one self-contained page."""
