"""What podfence's own judge makes of a case: the one place where the oracles' tests touch it."""

from dataclasses import replace
from typing import Any

import numpy as np

from deploy.semantics.ends import ContainerPort, Endpoint, Ends, Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import profile
from deploy.semantics.reading import manifests
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import ALLOWED, DENIED, UNDETERMINED, Court
from tests.oracles.cases import Case
from tests.oracles.lines import Verdicts
from tests.oracles.network_config_analyzer import written
from tests.oracles.worlds import World

CODES = {outcome: code for code, outcome in enumerate((ALLOWED, DENIED, UNDETERMINED))}


def mine(one: Case, *, block_matches_pods: bool) -> Verdicts:
    """Return podfence's verdicts; raises AssertionError where it leaves one open, for no case holds what is undetermined.

    The engine is Calico's, with `ipBlock` as the oracle has it.
    """
    policies = read((*one.policies, *one.sets), one.name)
    judged = replace(profile("calico"), block_matches_pods=block_matches_pods)
    ends = Ends(endpoints(one.world), Lens.of([policies]))
    court = Court(policies, (judged,), ends, Connections([Connection(kind.lower(), port) for kind, port in one.asked]))
    left, right = np.array(one.world.pairs, np.int64).reshape(-1, 2).T
    pair, connection = np.indices((len(left), len(one.asked))).reshape(2, -1)
    source, target, itself = ends.pairs(left[pair], right[pair])
    found = np.ones(len(pair), np.bool_)
    for direction in DIRECTIONS:
        outcome = court.judge(direction, source, target, connection, itself).outcome
        assert not np.any(outcome == CODES[UNDETERMINED]), one.name
        found &= outcome == CODES[ALLOWED]
    return found.reshape(len(left), len(one.asked))


def read(objects: tuple[dict[str, Any], ...], name: str) -> PolicySet:
    """Return the policies and network sets among objects, read from YAML like anybody's."""
    found, problems = manifests.parse(written(objects), f"{name}.yaml")
    assert not problems, (name, problems)
    assert len(found) == len(objects), name
    return PolicySet.of(found)


def endpoints(world: World) -> list[Endpoint]:
    """Return the ends of a world as podfence knows them."""
    found = []
    for end in world.ends:
        if end.pod < 0:
            found.append(Endpoint("external", ip=end.address))
            continue
        pod = world.pods[end.pod]
        found.append(
            Endpoint(
                kind="pod",
                ip=end.address,
                name=f"{pod.namespace}/{pod.name}",
                namespace=pod.namespace,
                labels=tuple(sorted(pod.labels.items())),
                namespace_labels=tuple(sorted(world.namespaces[pod.namespace].items())),
                ports=tuple(ContainerPort(port.name, port.number, port.protocol.lower()) for port in pod.ports),
                node=f"node-of-{pod.name}",
            )
        )
    return found
