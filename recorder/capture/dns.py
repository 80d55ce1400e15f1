"""What a DNS answer says: the name that was asked for, and the addresses it stands for."""

from functools import lru_cache

import dns.message
import dns.rcode
import dns.rdatatype

from recorder.capture.packets import address_text, address_value

MAX_MESSAGE = 4096
"""Octets; what resolvers announce at most over UDP (RFC 6891 §6.2.5). It bounds the records too, of 11 octets or more."""

Answer = tuple[str, list[tuple[str, int]]]
"""(name asked for, lower case without trailing dot; [(address, time to live in seconds)])."""

_HEADER = 12


def answers(message: bytes) -> Answer | None:
    """Return the name a response answers and its addresses, in the order given; None if it is no good response.

    Aliases (CNAME) are followed, and the addresses belong to the name that was asked for. Never raises; a message that is
    cut off, malformed, too long, an error or a query is None. A name without addresses has an empty list.
    """
    if not _HEADER < len(message) <= MAX_MESSAGE or message[4:6] != b"\x00\x01":
        return None
    found = _parse(message[2:8] + message[_HEADER:])
    return None if found is None else (found[0], list(found[1]))


@lru_cache(maxsize=1024)
def _parse(content: bytes) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    """Parse a response of which the identifier and the sections after the answers are left out.

    Pods ask for the same few names again and again, and the identifier is all that differs then.
    """
    wire = b"\x00\x00" + content[:6] + b"\x00\x00\x00\x00" + content[6:]
    try:
        response = dns.message.from_wire(wire, ignore_trailing=True)
        if not isinstance(response, dns.message.QueryMessage) or response.rcode() != dns.rcode.NOERROR:
            return None
        answer = response.resolve_chaining().answer  # raises for a query
    except Exception:  # noqa: BLE001 - whatever a stranger's packet provokes, the recorder goes on
        return None
    name = response.question[0].name.to_text(omit_final_dot=True).lower()
    if answer is None or answer.rdtype not in (dns.rdatatype.A, dns.rdatatype.AAAA):
        return name, ()
    addresses = [address_text(*address_value(record.address)) for record in answer]
    return name, tuple((address, answer.ttl) for address in addresses)
