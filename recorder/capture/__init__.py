"""Turns packets, live or from a capture file, into columns: `Packets` is all that the rest of the recorder sees."""
