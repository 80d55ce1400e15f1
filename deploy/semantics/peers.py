"""Answers conditions on ends for all classes at once: yes, no, or maybe.

Three-valued as Kleene's logic: of all parts the least answer holds, of any the greatest, and no becomes yes. Equality of labels
finds its classes through an index, so a condition costs what it selects.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.semantics.ends import APISERVER, KINDS, OTHER_NODE, OWN_NODE, POD, UNKNOWN, Codes, Ends
from deploy.semantics.profiles import Profile
from deploy.semantics.rules import (
    Addresses,
    AllOf,
    AnyOf,
    Block,
    Doubtful,
    Everyone,
    Family,
    Kinds,
    Members,
    Net,
    NetworkSet,
    Other,
    Peer,
    Pods,
    Serves,
    only_negative,
)
from deploy.semantics.selectors import ALL, In, Not, Or, Selector, both

NO, MAYBE, YES = 0, 1, 2

Answers = NDArray[np.int8]


class Peers:
    """The conditions of one policy set under one profile, answered over the classes of `ends`.

    `number` gives a condition its number; `answers` looks numbers and classes up in columns.
    """

    def __init__(
        self, ends: Ends, profile: Profile, sets: Iterable[NetworkSet] = (), known: frozenset[str] = frozenset()
    ) -> None:
        """Take the network sets that selectors may mean, and the Services whose endpoints are known."""
        self.ends = ends
        self.profile = profile
        self.known_services = known
        self._sets = tuple(sets)
        self._numbers: dict[Peer, int] = {}
        self._rows: list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]] = []
        self._meanings: list[Codes] = []
        self._packed: tuple[NDArray[np.uint8], NDArray[np.uint8], Codes] | None = None
        self._meant: dict[Selector, tuple[tuple[Net, ...], tuple[Net, ...]]] = {}
        self._inside: dict[tuple[Net, ...], Answers] = {}
        self._known: dict[Peer, tuple[Codes, Answers]] = {}
        self._hosts = {"selected": MAYBE, "ignored": NO, None: MAYBE}[profile.host_network_peers]
        self._everything = np.arange(ends.size)

    def number(self, peer: Peer) -> int:
        """Return the number of a condition."""
        found = self._numbers.get(peer)
        if found is None:
            found = self._numbers[peer] = len(self._rows)
            rows, answers = self.row(peer)
            self._meanings.append(rows)
            self._rows.append((self._bits(rows[answers == YES]), self._some(rows[answers == MAYBE])))
            self._packed = None
        return found

    def meant(self, number: int) -> Codes:
        """Return the classes that a condition may mean."""
        return self._meanings[number]

    def answers(self, numbers: Codes, classes: Codes) -> Answers:
        """Return the answer of each condition on each class (equally long arrays)."""
        if not len(numbers):
            return np.zeros(0, np.int8)
        if self._packed is None:
            maybes = [one for _, one in self._rows if one is not None]
            places = np.cumsum([one is not None for _, one in self._rows]) * [one is not None for _, one in self._rows]
            blank = np.zeros((1, self._bits(self._everything[:0]).size), np.uint8)
            self._packed = np.stack([one for one, _ in self._rows]), np.vstack([blank, *maybes]), places
        sure, unsure, places = self._packed
        found: Answers
        column, bit = classes >> 3, (classes & 7).astype(np.uint8)
        found = (sure[numbers, column] >> bit & 1).astype(np.int8) << 1
        if len(unsure) > 1:
            found |= (unsure[places[numbers], column] >> bit & 1).astype(np.int8)
        return found

    def _bits(self, rows: Codes) -> NDArray[np.uint8]:
        whole = np.zeros(self.ends.size, np.bool_)
        whole[rows] = True
        return np.packbits(whole, bitorder="little")

    def _some(self, rows: Codes) -> NDArray[np.uint8] | None:
        return self._bits(rows) if rows.size else None

    def row(self, peer: Peer) -> tuple[Codes, Answers]:
        """Return the classes that may be meant and the answer for each; all others are not."""
        if peer not in self._known:
            self._known[peer] = self._any(peer.parts) if isinstance(peer, AnyOf) else self._one(peer)
        return self._known[peer]

    def subjects(self, peer: Peer) -> tuple[Codes, Answers]:
        """Return the classes that a policy governs, as `row`; host-network pods are subjects by an answer of their own."""
        rows, answers = self.row(peer)
        hosts = np.flatnonzero(self.ends.host)
        if not len(hosts):
            return rows, answers
        held, self._hosts = self._hosts, {"policed": YES, "ignored": NO, None: MAYBE}[self.profile.host_network]
        own = self._answer(peer, hosts)
        self._hosts = held
        kept = ~self.ends.host[rows]
        rows, answers = np.concatenate([rows[kept], hosts]), np.concatenate([answers[kept], own])
        return rows[answers != NO], answers[answers != NO]

    def _any(self, parts: Iterable[Peer]) -> tuple[Codes, Answers]:
        found = np.zeros(self.ends.size, np.int8)
        for part in parts:
            rows, answers = self.row(part)
            found[rows] = np.maximum(found[rows], answers)
        rows = np.flatnonzero(found)
        return rows, found[rows]

    def _one(self, peer: Peer) -> tuple[Codes, Answers]:
        rows = self._candidates(peer)
        answers = self._answer(peer, rows)
        kept = answers != NO
        return rows[kept], answers[kept]

    def _candidates(self, peer: Peer) -> Codes:
        """Return classes among which all that may be meant are found."""
        if isinstance(peer, AllOf):
            return min((self._candidates(part) for part in peer.parts), key=len, default=self._everything)
        if isinstance(peer, Pods):
            if self.profile.negated_namespaces_match_outside and only_negative(peer.namespaces):
                return self._everything
            found = list(self._holders(peer.pods, peer.scheme)) + list(self._holders(peer.namespaces, "namespace"))
            if peer.namespace is not None:
                found.append(self.ends.in_namespace(peer.namespace))
            if found:
                return self._with_doubtful(min(found, key=len), peer)
        if isinstance(peer, Members) and not any(self._nets(peer.selector)):
            found = list(self._holders(peer.selector, "calico"))
            if found:
                return self._with_doubtful(min(found, key=len), Pods(peer.selector, scheme="calico"))
        return self._everything

    def _with_doubtful(self, rows: Codes, peer: Pods) -> Codes:
        more = [self.ends.doubtful, *(np.flatnonzero(self.ends.vague[what]) for what in _looks_at(peer))]
        doubtful = np.concatenate(more)
        return np.union1d(rows, doubtful) if len(doubtful) else rows

    def _holders(self, selector: Selector, scheme: str) -> Iterator[Codes]:
        for key, value in selector.equalities():
            yield self.ends.labels(scheme).holders(key, value)

    def _answer(self, peer: Peer, rows: Codes) -> Answers:
        match peer:
            case Everyone():
                return np.full(len(rows), YES, np.int8)
            case AllOf(parts):
                answers = [self._answer(part, rows) for part in parts]
                return np.minimum.reduce(answers) if answers else np.full(len(rows), YES, np.int8)
            case AnyOf(parts):
                answers = [self._answer(part, rows) for part in parts]
                return np.maximum.reduce(answers) if answers else np.zeros(len(rows), np.int8)
            case Other(part):
                return (YES - self._answer(part, rows)).astype(np.int8)
            case Pods():
                return self._pods(peer, rows)
            case Members(selector):
                return self._members(selector, rows)
            case Addresses(nets):
                return self._addresses(nets, rows)
            case Block(net):
                return self._block(net, rows)
            case _:
                return self._kinds(peer, rows)

    def _pods(self, peer: Pods, rows: Codes) -> Answers:
        ends, kinds = self.ends, self.ends.kind[rows]
        selected = np.ones(len(rows), np.bool_)
        if peer.namespace is not None:
            selected &= ends.namespace[rows] == ends.namespace_code(peer.namespace)
        if peer.namespaces != ALL:
            selected &= self._spaces(peer.namespaces).of(ends.labels("namespace"), rows)
        if peer.pods != ALL:
            selected &= peer.pods.of(ends.labels(peer.scheme), rows)
        found = np.where(selected & (kinds == POD), YES, NO).astype(np.int8)
        for what in _looks_at(peer):
            vague = ends.vague[what][rows] & (kinds == POD)
            if peer.namespace is not None:
                vague &= ends.namespace[rows] == ends.namespace_code(peer.namespace)
            found[vague] = MAYBE
        if _CALICO_NAME in peer.namespaces.keys() and "calico" not in self.profile.enforces:  # noqa: SIM118 - no mapping
            found[kinds == POD] = MAYBE
        found[selected & ends.host[rows]] = self._hosts
        found[kinds == UNKNOWN] = MAYBE
        if self.profile.negated_namespaces_match_outside and only_negative(peer.namespaces):
            outside = (kinds != POD) & (kinds != UNKNOWN)
            found[outside] = YES if peer.pods == ALL or only_negative(peer.pods) else NO
        return found

    def _spaces(self, selector: Selector) -> Selector:
        """Return a selector of namespaces as the engine reads it."""
        if not self.profile.negated_namespace_values_alternate:
            return selector
        return both(*(_alternatives(part) for part in selector.conjuncts()))

    def _members(self, selector: Selector, rows: Codes) -> Answers:
        sure, unsure = self._nets(selector)
        inside = np.maximum(self._addresses(sure, rows), np.minimum(self._addresses(unsure, rows), MAYBE))
        return np.maximum(self._pods(Pods(selector, scheme="calico"), rows), inside)

    def _nets(self, selector: Selector) -> tuple[tuple[Net, ...], tuple[Net, ...]]:
        """Return the addresses of the network sets that a selector means, and of those that it may mean."""
        if selector not in self._meant:
            found: dict[int, list[Net]] = {NO: [], MAYBE: [], YES: []}
            for one in self._sets:
                found[self._means(selector, one)] += one.nets
            self._meant[selector] = tuple(found[YES]), tuple(found[MAYBE])
        return self._meant[selector]

    def _means(self, selector: Selector, one: NetworkSet) -> int:
        """Tell whether a selector means a network set, which inherits the labels of its namespace."""
        labels = dict(one.labels)
        asked = {key for key in selector.keys() if key.startswith("pcns.")} - set(labels)  # noqa: SIM118 - no mapping
        if one.namespace is None or not asked:
            return YES if selector.matches(labels) else NO
        spaces = self.ends.namespace_labels(one.namespace)
        told = {selector.matches(labels | {f"pcns.{key}": value for key, value in space}) for space in spaces}
        return YES if told == {True} else NO if told == {False} else MAYBE

    def _addresses(self, nets: tuple[Net, ...], rows: Codes) -> Answers:
        if not nets:
            return np.zeros(len(rows), np.int8)
        if nets not in self._inside:
            self._inside[nets] = self._within(nets)
        return self._inside[nets][rows]

    def _within(self, nets: tuple[Net, ...]) -> Answers:
        """Return the answer for each class: all of its addresses lie in the nets, none do, or some, or nobody knows them."""
        ends = self.ends
        found = np.where(ends.family == 0, MAYBE, NO).astype(np.int8)
        for family in {net.range[0] for net in nets}:
            sums = np.concatenate(([0], np.cumsum(ends.lens.inside(nets, family))))
            rows = np.flatnonzero(ends.family == family)
            held = sums[ends.last[rows] + 1] - sums[ends.first[rows]]
            whole = held == ends.last[rows] - ends.first[rows] + 1
            found[rows] = np.where(whole, YES, np.where(held > 0, MAYBE, NO))
        return found

    def _block(self, net: Net, rows: Codes) -> Answers:
        inside, kinds = self._addresses((net,), rows), self.ends.kind[rows]
        limit = np.full(len(rows), YES, np.int8)
        limit[kinds == POD] = _limit(self.profile.block_matches_pods)
        limit[(kinds == OWN_NODE) | (kinds == OTHER_NODE)] = _limit(self.profile.block_matches_nodes)
        # The API server's address may be a node's.
        limit[kinds == APISERVER] = YES if self.profile.block_matches_nodes else MAYBE
        limit[kinds == UNKNOWN] = MAYBE
        return np.minimum(inside, limit)

    def _kinds(self, peer: Peer, rows: Codes) -> Answers:
        kinds = self.ends.kind[rows]
        if isinstance(peer, Kinds | Doubtful):
            meant = np.isin(kinds, [KINDS.index(kind) for kind in peer.kinds])
            found = np.where(meant, MAYBE if isinstance(peer, Doubtful) else YES, NO).astype(np.int8)
            found[kinds == UNKNOWN] = MAYBE
            return found
        if isinstance(peer, Family):
            family = self.ends.family[rows]
            return np.where(family == 0, MAYBE, np.where(family == peer.version, YES, NO)).astype(np.int8)
        if isinstance(peer, Serves):
            return self._serves(peer, rows)
        raise TypeError(peer)

    def _serves(self, peer: Serves, rows: Codes) -> Answers:
        found = np.where(self.ends.kind[rows] == UNKNOWN, MAYBE, NO).astype(np.int8)
        if peer.service not in self.known_services:
            found[:] = MAYBE
        for place, number in enumerate(rows):
            for service, protocol, port in self.ends.services(int(number)):
                if service == peer.service and peer.protocol in (None, protocol) and peer.port in (None, port):
                    found[place] = YES
        return found


_CALICO_NAME = "projectcalico.org/name"
"""A label that Calico adds to namespaces, not the API server: another engine sees it only where somebody wrote it."""
_NAMES = frozenset({"kubernetes.io/metadata.name", _CALICO_NAME})
"""Labels of namespaces that follow from their names."""
_INHERITED = {"pcns.": "namespace", "io.cilium.k8s.namespace.labels.": "namespace", "pcsa.": "account"}


def _looks_at(peer: Pods) -> set[str]:
    """Return whose labels, beside the pod's own, a condition looks at."""
    found = {"namespace" for key in peer.namespaces.keys() if key not in _NAMES}  # noqa: SIM118 - no mapping
    for key in peer.pods.keys() if peer.scheme != "pod" else ():
        for prefix, what in _INHERITED.items():
            if key.startswith(prefix) and key.removeprefix(prefix) not in _NAMES:
                found.add(what)
    return found


def _alternatives(selector: Selector) -> Selector:
    part = selector.part if isinstance(selector, Not) else None
    if isinstance(part, In) and len(part.values) > 1:
        return Or(tuple(Not(In(part.key, (value,))) for value in part.values))
    return selector


def _limit(matches: bool | None) -> int:
    return MAYBE if matches is None else YES if matches else NO
