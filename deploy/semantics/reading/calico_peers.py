"""Reads what a rule of Calico's says of one end: its selectors, service accounts, Service and addresses.

Fields: projectcalico/calico api/pkg/apis/projectcalico/v3/policy_common.go. Which ends the selectors of a rule mean:
libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go (`getEndpointSelector`) and felix/calc/rule_scanner.go
(`combineMatchesIfPossible`).
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from deploy.semantics.reading.calico_selectors import (
    ACCOUNT_PREFIX,
    MAX_LENGTH,
    NAMESPACE,
    SERVICE_ACCOUNT,
    SelectorError,
    calico_selector,
    namespace_selector,
    prefixed,
)
from deploy.semantics.reading.fields import Field
from deploy.semantics.rules import (
    EVERYONE,
    Addresses,
    AllOf,
    AnyOf,
    Doubtful,
    Family,
    Members,
    Net,
    Other,
    Peer,
    Range,
    address_range,
)
from deploy.semantics.selectors import In, Not, Selector, both

MAX_NETS = 256

_BESIDE_SERVICES = ("namespaceSelector", "selector", "notSelector", "nets", "notNets", "serviceAccounts")
_SERVERS = frozenset({"pod", "own-node", "other-node", "apiserver", "external"})
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_PREFIX = re.compile(r"[0-9a-fA-F:.]+(?:/[0-9]{1,3})?")
_EVERY_ADDRESS = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Entity:
    """One end as a rule describes it, ports aside.

    `service` is `namespace/name`, and `peer` then holds only the doubt about it. `families`: the IP versions in each list of
    prefixes that is not empty.
    """

    peer: Peer
    service: str | None = None
    families: tuple[tuple[Field, frozenset[int]], ...] = ()


def entity(field: Field, namespace: str | None) -> Entity:
    """Return one end of a rule in a policy of this namespace (None: of a global one)."""
    if not field.mapping():
        return Entity(EVERYONE)
    field.only(
        *("nets", "notNets", "selector", "notSelector", "namespaceSelector", "services", "serviceAccounts"),
        *("ports", "notPorts"),
    )
    if "services" in field:
        for key in _BESIDE_SERVICES:
            if field[key].value:
                field[key].fail("may not stand together with services")
        return _service(field["services"], namespace)
    parts = [] if (members := _members(field, namespace)) is None else [members]
    families = []
    for key in ("nets", "notNets"):
        nets = _nets(field[key])
        found = frozenset(net.range[0] for net in nets)
        if nets:
            families.append((field[key], found))
            parts += [Addresses(nets)] if key == "nets" else [Other(Addresses(nets)), _either(found)]
    return Entity(together(*parts), families=tuple(families))


def together(*parts: Peer) -> Peer:
    """Return the condition that all parts hold."""
    asked = tuple(part for part in parts if part != EVERYONE)
    return EVERYONE if not asked else asked[0] if len(asked) == 1 else AllOf(asked)


def _either(families: frozenset[int]) -> Peer:
    """Return the condition of an IP version among these.

    A rule is left out of the rules of an IP version for which all its notNets are of the other
    (felix/rules/policy.go `FilterRuleToIPVersion`), so it does not match there.
    """
    found = tuple(Family(version) for version in sorted(families))
    return found[0] if len(found) == 1 else AnyOf(found)


def _members(field: Field, namespace: str | None) -> Peer | None:
    """Return what the selectors of one end mean together, None when there is none.

    In a namespaced policy any of them limits the end to the policy's own namespace, unless namespaceSelector says which.
    Beside another selector notSelector takes endpoints and network sets out of it; alone, it takes them out of all addresses.
    """
    own, unwanted = selector(field["selector"]), selector(field["notSelector"])
    accounts = _accounts(field["serviceAccounts"])
    spaces = selector(field["namespaceSelector"], read=namespace_selector)
    if spaces is None and namespace is not None and not own is unwanted is accounts is None:
        spaces = In(NAMESPACE, (namespace,))
    wanted = [one for one in (spaces, accounts, own) if one is not None]
    if not wanted:
        return None if unwanted is None else Other(Members(unwanted))
    return Members(both(*wanted, *([] if unwanted is None else [Not(unwanted)])))


def selector(
    field: Field, *, limit: int | None = MAX_LENGTH, read: Callable[[str], Selector] = calico_selector
) -> Selector | None:
    """Return a selector, None when there is none or it cannot be read (which is noted).

    One of blanks only is refused: joined with others, as Calico does, it is none that Felix can parse.
    """
    text = field.text()
    if not text:
        return None
    if not text.strip(" \t"):
        field.fail("is blank; leave it out, or write all()")
    elif limit is not None and len(text) > limit:
        field.fail(f"has {len(text)} characters, Calico takes {limit}")
    else:
        try:
            return read(text)
        except SelectorError as error:
            field.fail(f"selector {text if len(text) < 100 else text[:100] + '…'!r}: {error}")
    return None


def _accounts(field: Field) -> Selector | None:
    """Return what serviceAccounts asks for, names and selector together; None when for nothing."""
    if not field.mapping():
        return None
    field.only("names", "selector")
    names = tuple(sorted({name for item in field["names"].items() if (name := _name(item))}))
    chosen = selector(field["selector"], limit=None)
    parts = [] if chosen is None else [prefixed(chosen, ACCOUNT_PREFIX)]
    parts += [In(SERVICE_ACCOUNT, names)] if names else []
    return both(*parts) if parts else None


def _service(field: Field, namespace: str | None) -> Entity:
    """Return the end that is a Service's endpoints.

    Without a namespace the API reference means the policy's own, while rules.go looks in none and so finds nothing: a doubt.
    """
    if not field.mapping():
        return Entity(EVERYONE)
    field.only("name", "namespace")
    name, space = _name(field["name"]), _name(field["namespace"])
    if name is None and not field["name"].value:
        field.fail("`name` is missing")
    if space is None and namespace is None and not field["namespace"].value:
        field.fail("a global policy must name the Service's namespace")
    doubt = EVERYONE if space else Doubtful("service", _SERVERS)
    return Entity(doubt, service=f"{space or namespace}/{name}")


def _name(field: Field) -> str | None:
    found = field.text()
    if not found:
        return None
    if not _NAME.fullmatch(found):
        field.fail(f"{found!r} is no name")
        return None
    return found


def _nets(field: Field) -> tuple[Net, ...]:
    items = list(field.items())
    if len(items) > MAX_NETS:
        field.fail(f"has {len(items)} entries, Calico takes {MAX_NETS}")
    for item in items if field.step == "notNets" else ():
        if item.value in _EVERY_ADDRESS:
            item.fail(f"without {item.value} nothing is left")
    return tuple(Net(found) for item in items if (found := prefix(item)) is not None)


def prefix(field: Field, *, loose: bool = False) -> Range | None:
    """Return the range of a prefix, None when it is none (which is noted).

    Rules take prefixes without host bits; network sets (`loose`) take addresses and host bits, too, and cut these off
    (libcalico-go/lib/validator/v3/validator.go: `net`, `cidr`, `scanNets`).
    """
    text = field.text()
    if text is None:
        return None
    try:
        network = ipaddress.ip_network(text, strict=False) if _PREFIX.fullmatch(text) else None
    except ValueError:
        network = None
    if network is None or (network.version == 6 and network.network_address.ipv4_mapped is not None):
        field.fail(f"{text!r} is no prefix such as 10.0.0.0/8")
        return None
    if not loose and "/" not in text:
        field.fail(f"{text} is an address; a rule takes prefixes: {network}")
    elif not loose and ipaddress.ip_address(text.partition("/")[0]) != network.network_address:
        field.fail(f"{text} has bits beyond its prefix; {network} is meant")
    return address_range(str(network))
