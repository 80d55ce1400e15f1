"""Reads Cilium's rules on ICMP messages (`icmps`): families, types, and the names of types.

Fields and names: cilium/cilium pkg/policy/api/icmp.go; limits: pkg/policy/api/rule_validation.go.
"""

import re

from deploy.semantics.reading.fields import Field
from deploy.semantics.rules import IcmpMatch

_MOST = 40
"""Fields of a rule."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
_FAMILIES = {"IPv4": "icmp", "IPv6": "icmpv6"}
_TYPES: dict[str, dict[str, int]] = {
    "icmp": {
        "EchoReply": 0,
        "DestinationUnreachable": 3,
        "Redirect": 5,
        "Echo": 8,
        "EchoRequest": 8,
        "RouterAdvertisement": 9,
        "RouterSelection": 10,
        "TimeExceeded": 11,
        "ParameterProblem": 12,
        "Timestamp": 13,
        "TimestampReply": 14,
        "Photuris": 40,
        "ExtendedEchoRequest": 42,
        "ExtendedEchoReply": 43,
    },
    "icmpv6": {
        "DestinationUnreachable": 1,
        "PacketTooBig": 2,
        "TimeExceeded": 3,
        "ParameterProblem": 4,
        "EchoRequest": 128,
        "EchoReply": 129,
        "MulticastListenerQuery": 130,
        "MulticastListenerReport": 131,
        "MulticastListenerDone": 132,
        "RouterSolicitation": 133,
        "RouterAdvertisement": 134,
        "NeighborSolicitation": 135,
        "NeighborAdvertisement": 136,
        "RedirectMessage": 137,
        "RouterRenumbering": 138,
        "ICMPNodeInformationQuery": 139,
        "ICMPNodeInformationResponse": 140,
        "InverseNeighborDiscoverySolicitation": 141,
        "InverseNeighborDiscoveryAdvertisement": 142,
        "HomeAgentAddressDiscoveryRequest": 144,
        "HomeAgentAddressDiscoveryReply": 145,
        "MobilePrefixSolicitation": 146,
        "MobilePrefixAdvertisement": 147,
        "DuplicateAddressRequestCodeSuffix": 157,
        "DuplicateAddressConfirmationCodeSuffix": 158,
        "ExtendedEchoRequest": 160,
        "ExtendedEchoReply": 161,
    },
}


def icmp(field: Field) -> tuple[tuple[IcmpMatch, ...], bool]:
    """Return the messages that `icmps` names, and whether one of its entries names none."""
    entries = [entry for entry in field.items() if entry.mapping()]
    found: list[IcmpMatch] = []
    count = 0
    for entry in entries:
        entry.only("fields")
        for one in entry["fields"].items():
            count += 1
            if one.mapping() and (match := _message(one)):
                found.append(match)
    if count > _MOST:
        field.fail(f"has {count} fields, Cilium takes {_MOST}")
    return tuple(found), any(not entry["fields"].value for entry in entries)


def _message(one: Field) -> IcmpMatch | None:
    one.only("family", "type")
    protocol = _FAMILIES[one["family"].choice(tuple(_FAMILIES)) or "IPv4"]
    wanted = one["type"]
    if wanted.absent:
        one.fail("`type` is missing")
        return None
    value = wanted.value
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        if value not in _TYPES[protocol]:
            wanted.fail(f"{value!r} is no type of {protocol}")
            return None
        return IcmpMatch(protocol, _TYPES[protocol][value])
    number = int(value) if isinstance(value, str) else wanted.integer()
    if number is not None and not 0 <= number <= 255:
        wanted.fail(f"{number} is outside 0-255")
        return None
    return None if number is None else IcmpMatch(protocol, number)
