"""Captures pod flows and says who each endpoint was at that moment; the result is a recording."""
