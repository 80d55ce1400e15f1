"""The cluster's DNS: names of Services and pods as CoreDNS answers them, and a client with a pod's search list."""

from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

DOMAIN = "cluster.local"
TTL = 5

# The addresses of a name in lower case without trailing dot, both families; None when there is no such name.
Lookup = Callable[[str], list[str] | None]


def answer(wire: bytes, lookup: Lookup) -> bytes | None:
    """Answer one query in wire format; None for what cannot be read."""
    try:
        query = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None
    if len(query.question) != 1 or query.flags & dns.flags.QR:
        return None
    reply = dns.message.make_response(query, recursion_available=True)
    reply.flags |= dns.flags.AA
    question = query.question[0]
    found = lookup(question.name.to_text(omit_final_dot=True).lower())
    if found is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    else:
        wanted = {dns.rdatatype.A: False, dns.rdatatype.AAAA: True}.get(question.rdtype)
        matching = [address for address in found if (":" in address) is wanted]
        if matching:
            reply.answer.append(dns.rrset.from_text(question.name, TTL, "IN", question.rdtype, *matching))
    return reply.to_wire()


def answer_stream(data: bytes, lookup: Lookup) -> bytes | None:
    """Answer one query as TCP carries it, with its length in front (RFC 7766)."""
    reply = answer(data[2:], lookup)
    return len(reply).to_bytes(2, "big") + reply if reply else None


def query(name: str, kind: str = "A") -> bytes:
    """Make a query in wire format."""
    return dns.message.make_query(name, kind).to_wire()


def addresses(wire: bytes) -> list[str] | None:
    """Read the addresses out of an answer; None when the name does not exist or there was no answer."""
    if not wire:
        return None
    reply = dns.message.from_wire(wire)
    if reply.rcode() != dns.rcode.NOERROR:
        return None
    return [
        record.to_text()
        for records in reply.answer
        if records.rdtype in {dns.rdatatype.A, dns.rdatatype.AAAA}
        for record in records
    ]


def candidates(name: str, namespace: str) -> list[str]:
    """Give the names that a pod's resolver tries, in order: ndots is 5 and the search list the kubelet's."""
    if name.endswith("."):
        return [name[:-1]]
    searched = [f"{name}.{suffix}" for suffix in (f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN)]
    return [name, *searched] if name.count(".") >= 5 else [*searched, name]
