"""cyclonus 0.5.6 as an oracle for Kubernetes policies, through `go/cyclonus`.

What it does wrong, and what is done about it (each has a test that shows it still does):
- `NotIn` does not match where the key is absent (pkg/kube/labelselector.go): such requirements ask for a key of their own
  instead, which everything carries, with a value that nobody lists where the key is absent.
- `matchLabels` with an empty value matches where the key is absent (the same file): empty values get a name.
- Its traffic carries one port name (pkg/matcher/traffic.go): the Go program asks about each half under each name.
- It panics on absent `policyTypes` (pkg/matcher/builder.go): it gets policies as the API server defaults them.
"""

from dataclasses import replace
from typing import Any

from tests.oracles.cases import Case, relabelled
from tests.oracles.kubernetes_policies import types, with_selectors
from tests.oracles.lines import Program, Verdicts

NOT_IN = ".not-in"
ABSENT = "key-is-absent"
EMPTY = "value-is-empty"


def verdicts(program: Program, one: Case) -> Verdicts:
    """Return the verdicts on a case; `ipBlock` matches the addresses of pods, too."""
    return program.verdicts(suited(one))


def suited(one: Case) -> Case:
    """Return the case, changed where cyclonus would go wrong."""
    named = relabelled(one, lambda value: value or EMPTY)
    asked_for = {expression["key"] for policy in named.policies for expression in _not_in(policy)}
    if asked_for:
        named = _with_own_keys(named, sorted(asked_for))
    defaulted = [policy | {"spec": policy["spec"] | {"policyTypes": types(policy)}} for policy in named.policies]
    return replace(named, policies=tuple(defaulted))


def _not_in(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the `NotIn` requirements of a policy."""
    found: list[dict[str, Any]] = []

    def note(selector: dict[str, Any], _of: str) -> dict[str, Any]:
        found.extend(one for one in selector.get("matchExpressions", []) if one["operator"] == "NotIn")
        return selector

    with_selectors(policy, note)
    return found


def _with_own_keys(one: Case, keys: list[str]) -> Case:
    def labels(known: Any) -> dict[str, str]:
        return dict(known) | {key + NOT_IN: known.get(key, ABSENT) for key in keys}

    def change(selector: dict[str, Any], _of: str) -> dict[str, Any]:
        for expression in selector.get("matchExpressions", []):
            if expression["operator"] == "NotIn":
                expression["key"] += NOT_IN
        return selector

    world = replace(
        one.world,
        namespaces={name: labels(known) for name, known in one.world.namespaces.items()},
        pods=tuple(replace(pod, labels=labels(pod.labels)) for pod in one.world.pods),
    )
    return replace(one, world=world, policies=tuple(with_selectors(policy, change) for policy in one.policies))
