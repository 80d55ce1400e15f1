"""The generator writes every form whose meaning the API defines, so that the oracles judge each of them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.oracles.cases import Case, case
from tests.oracles.kubernetes_policies import SIDES, rules, types
from tests.oracles.worlds import ODD_VALUES

Json = dict[str, Any]
SAMPLE = 100
"""As many as the smallest run judges."""


def kubernetes_forms(one: Case) -> Iterator[str]:
    """Yield the forms of the Kubernetes policies of a case.

    Source: kubernetes/api networking/v1/types.go; kubernetes/kubernetes pkg/apis/networking/v1/defaults.go.
    """
    for policy in one.policies:
        spec = policy["spec"]
        yield "podSelector " + (
            "absent" if "podSelector" not in spec else "empty" if not spec["podSelector"] else "given"
        )
        egress = "absent" if "egress" not in spec else "given" if spec["egress"] else "empty"
        yield f"types {'given' if spec.get('policyTypes') else 'absent'}, egress {egress}"
        for direction in SIDES:
            governed = "governed" if direction.capitalize() in types(policy) else "not governed"
            given = spec.get(direction)
            kind = "absent" if given is None else "empty" if not given else "{}" if {} in given else "rules"
            yield f"{direction} {governed}, {kind}"
        for direction, rule in rules(policy):
            side = SIDES[direction]
            for part in (side, "ports"):
                yield f"{direction} {part} " + ("absent" if part not in rule else "given" if rule[part] else "empty")
            for port in rule.get("ports") or []:
                number = port.get("port")
                kind = (
                    "absent"
                    if number is None
                    else "named"
                    if isinstance(number, str)
                    else "range"
                    if "endPort" in port
                    else "number"
                )
                yield f"{direction} port {kind}, protocol {'given' if 'protocol' in port else 'absent'}"
            yield from (f"{direction} peer {form}" for peer in rule.get(side) or [] for form in peer_forms(peer))
    selected = Counter(policy["metadata"]["namespace"] for policy in one.policies)
    yield from (["several policies in a namespace"] if max(selected.values()) > 1 else [])


def peer_forms(peer: Json) -> Iterator[str]:
    """Yield the forms of a peer."""
    if "ipBlock" in peer:
        yield (
            "block"
            + (" except" if "except" in peer["ipBlock"] else "")
            + (" v6" if ":" in peer["ipBlock"]["cidr"] else "")
        )
        return
    yield " and ".join(sorted(peer))
    for field, selector in peer.items():
        yield f"{field} {'given' if selector else 'empty'}"
        yield from (f"{field} {expression['operator']}" for expression in selector.get("matchExpressions", []))


def calico_forms(one: Case) -> Iterator[str]:
    """Yield the forms of the Calico policies of a case.

    Source: projectcalico/calico api/pkg/apis/projectcalico/v3/networkpolicy.go.
    """
    yield from (each["kind"] for each in one.sets)
    for policy in one.policies:
        spec = policy["spec"]
        yield policy["kind"]
        yield from (
            f"{field} {'given' if spec.get(field) else 'absent'}"
            for field in ("types", "selector", "ingress", "egress")
        )
        order = spec.get("order", "absent")
        yield "order " + (order if order == "absent" else "early" if order < 1000 else "late")
        yield from (["namespaceSelector of a policy"] if "namespaceSelector" in spec else [])
        for direction, rule in rules(policy):
            own, other = ("destination", "source") if direction == "ingress" else ("source", "destination")
            yield rule["action"]
            yield from (f"protocol {rule[field]}" for field in ("protocol",) if field in rule)
            yield from (["notProtocol"] if "notProtocol" in rule else [])
            yield from (f"{direction} {field}" for field in rule.get(other, {}) if "orts" not in field)
            yield from (["own end"] if "selector" in rule.get(own, {}) else [])
            yield from (["anybody"] if not rule.get(other) else [])
            for field in ("ports", "notPorts"):
                for port in rule.get("destination", {}).get(field, []):
                    yield f"{field} " + ("number" if isinstance(port, int) else "range" if ":" in port else "name")


def counted(kind: str, forms: Any) -> Counter[str]:
    """Return how many cases of the sample hold each form."""
    return Counter(form for number in range(SAMPLE) for form in set(forms(case(kind, number))))


def test_every_form_of_a_kubernetes_policy_is_written() -> None:
    """Each combination that the API tells apart is in several cases."""
    found = counted("kubernetes", kubernetes_forms)
    wanted = {f"podSelector {how}" for how in ("absent", "empty", "given")}
    wanted |= {f"types {how}, egress {what}" for how in ("absent", "given") for what in ("absent", "empty", "given")}
    for direction, side in SIDES.items():
        wanted |= {f"{direction} governed, {kind}" for kind in ("absent", "empty", "{}", "rules")}
        wanted |= {f"{direction} not governed, rules"} if direction == "ingress" else {"egress not governed, empty"}
        wanted |= {f"{direction} {part} {how}" for part in (side, "ports") for how in ("absent", "empty", "given")}
        wanted |= {
            f"{direction} port {kind}, protocol {how}"
            for kind in ("named", "range", "number")
            for how in ("given", "absent")
        }
        wanted |= {f"{direction} port absent, protocol given"}
        wanted |= {
            f"{direction} peer {kind}"
            for kind in ("block", "block except", "block v6", "podSelector", "namespaceSelector")
        }
        wanted |= {f"{direction} peer namespaceSelector and podSelector"}
        for field in ("podSelector", "namespaceSelector"):
            operators = ("In", "NotIn", "Exists", "DoesNotExist", "empty", "given")
            wanted |= {f"{direction} peer {field} {operator}" for operator in operators}
    wanted |= {"several policies in a namespace"}
    assert sorted(form for form in wanted if found[form] < 2) == []


def test_every_field_of_a_calico_policy_is_written() -> None:
    """Each field and action that the oracle knows is in several cases."""
    found = counted("calico", calico_forms)
    wanted = {
        "NetworkPolicy",
        "GlobalNetworkPolicy",
        "NetworkSet",
        "GlobalNetworkSet",
        "namespaceSelector of a policy",
        "own end",
    }
    wanted |= {f"{field} {how}" for field in ("types", "selector", "ingress", "egress") for how in ("given", "absent")}
    wanted |= {"order absent", "order early", "order late", "Allow", "Deny", "Pass", "Log", "notProtocol", "anybody"}
    wanted |= {f"protocol {one}" for one in ("TCP", "UDP", "SCTP", "ICMP", 6, 17)}
    entity = ("selector", "notSelector", "namespaceSelector", "nets", "notNets")
    wanted |= {f"{direction} {field}" for direction in SIDES for field in entity}
    wanted |= {f"{field} {kind}" for field in ("ports", "notPorts") for kind in ("number", "range", "name")}
    assert sorted(form for form in wanted if found[form] < 2) == []


def test_worlds_hold_what_names_and_labels_may_be() -> None:
    """Pods give one name to several numbers, several names to one, and both families and odd label values occur."""
    found: Counter[str] = Counter()
    for number in range(SAMPLE):
        one = case("kubernetes", number)
        pods = one.world.pods
        numbers = {(port.name, port.protocol): set[int]() for pod in pods for port in pod.ports}
        for pod in pods:
            for port in pod.ports:
                numbers[port.name, port.protocol].add(port.number)
            found["two names"] += len({(port.number, port.protocol) for port in pod.ports}) < len(pod.ports)
            found["two protocols"] += len({port.name for port in pod.ports}) < len(pod.ports)
            found["odd label"] += any(value in ODD_VALUES for value in pod.labels.values())
        found["several numbers"] += any(len(held) > 1 for held in numbers.values())
        found["both families"] += one.dual
    assert (
        min(found[form] for form in ("two names", "two protocols", "odd label", "several numbers", "both families"))
        > 10
    )


def test_a_case_is_the_same_each_time() -> None:
    """A case named in a report can be made again from its kind and number."""
    assert case("both", 7) == case("both", 7) != case("both", 8)
