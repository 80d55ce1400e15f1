"""Lengths of time as people write them."""

import re
from datetime import datetime

from recorder.errors import InputError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str, flag: str) -> float:
    """Return the seconds in `90`, `90s`, `30m`, `24h`, `14d`; InputError, naming the flag, if it is none of these."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", text.strip())
    if match is None or not float(match[1]):
        raise InputError(f"{flag} {text!r}: not a length of time; write 90s, 30m, 24h or 14d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def instant(text: str, flag: str) -> int:
    """Return an RFC 3339 time as microseconds since the epoch; InputError, naming the flag, if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(f"{flag} {text!r}: not an RFC 3339 time with its zone, such as 2026-05-01T12:00:00Z")
    return int(moment.timestamp() * 1_000_000)
