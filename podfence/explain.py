"""`podfence explain`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from podfence import options

if TYPE_CHECKING:
    from deploy import Evaluation
    from deploy.evaluate import Half, Pair
    from deploy.explain import Explanation, Ground
    from deploy.semantics.trail import Step


@click.command()
@click.argument("name", required=False, metavar="[NAME]")
@options.policies
@click.option("--rule", metavar="NAME", help="The same as NAME.")
@click.option("--learned", metavar="DIR", help="What `learn` wrote, for the times at which NAME's patterns were seen.")
@options.cluster
@options.ends(required=False)
@options.profile
@options.existing
@options.staged
@options.output("markdown")
def explain(
    name: str | None,
    policies: tuple[str, ...],
    rule: str | None,
    learned: str | None,
    inventory: str | None,
    recording: str | None,
    source: str | None,
    destination: str | None,
    port: str | None,
    profile: str,
    *,
    existing: bool,
    staged: str,
    form: str,
) -> int:
    """Say why a connection is allowed or not, or why a rule is there.

    With --from, --to and --port: every rule that was asked, in order, and what it said of the peer and of the port (yes, no,
    maybe), the rule that comes nearest, which engines differ, and what the client sees. Exit code 1 when the connection is
    denied or cannot be told.

    With NAME, of a folder that `generate` wrote: the recorded patterns that each rule rests on, and what was seen and is not
    allowed. NAME is a workload (shop/deployment/web) or a policy as reports name it (NetworkPolicy shop/deployment-web), alone
    or with one rule (... egress[0]).

    \b
    Examples:
      podfence explain --policies policies --inventory inventory.yaml \\
        --from shop/deployment/web --to shop/statefulset/db --port 5432/tcp
      podfence explain --policies policies shop/deployment/web
      podfence explain --policies policies --rule 'shop/deployment/web egress[0]'
    """
    ends = {"--from": source, "--to": destination, "--port": port}
    asked = [one for one in (name, rule) if one is not None]
    context = click.get_current_context()
    if asked and (any(ends.values()) or inventory or recording):
        raise click.UsageError("a NAME needs neither --from, --to and --port nor a cluster", context)
    if len(asked) > 1:
        raise click.UsageError("give NAME or --rule, not both", context)
    if not asked and not any(ends.values()):
        raise click.UsageError("give --from, --to and --port, or the NAME of a workload or rule", context)
    if asked:
        if len(policies) > 1:
            raise click.UsageError("a NAME needs one --policies, the folder that `generate` wrote", context)
        return _rules(policies[0], asked[0], learned, form)
    if learned is not None:
        raise click.UsageError("--learned goes with a NAME", context)
    if missing := [flag for flag, value in ends.items() if value is None]:
        raise click.UsageError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", context)
    import deploy

    found = deploy.evaluate(
        policies,
        options.population(inventory, recording),
        source=str(source),
        destination=str(destination),
        port=str(port),
        profile=profile,
        existing=existing,
        staged=staged,
    )
    return _connection(found, options.words(policies=policies, profile=profile, staged=staged), form)


def _connection(found: "Evaluation", same: list[str], form: str) -> int:
    from podfence.evaluate import sentence
    from podfence.output import command, data, next_step, put, say

    if form == "table":
        _show(found)
    elif form == "markdown":
        from deploy.reports import markdown

        put(markdown.evaluation(found).removesuffix("\n"))
    else:
        data(found.json(), form)
    say(sentence(found))
    next_step(command("podfence", "replay", "RECORDING", *same))
    return int(found.outcome != "allowed")


def _show(found: "Evaluation") -> None:
    """Print what becomes of each pair of ends, and what every rule said of it."""
    from podfence.output import plural, put

    for number, pair in enumerate(found.pairs):
        if number:
            put()
        alike = f" (and {plural(pair.pairs - 1, 'pair')} of pods alike)" if pair.pairs > 1 else ""
        put(f"{pair.source} -> {pair.destination} {found.port}: {pair.outcome}{alike}")
        for line in _seen(pair, found.engines):
            put(line)
        for half in pair.halves:
            put()
            _show_half(half)


def _show_half(half: "Half") -> None:
    from deploy.reports.wording import decided_at, half_nearest, place, reason
    from podfence.output import put, tables

    said = half.verdict
    by = f" by {said.by}" if said.by else ""
    at = f" ({decided_at(half)})" if decided_at(half) else ""
    put(f"{half.direction}: {said.outcome}{by}{at}: {reason(said.reason, said.engines)}")
    if half.nearest is not None:
        put(f"nearest: {half_nearest(half)} ({place(half.nearest.file, half.nearest.line)})")
    tiers = {step.tier for step in half.trail}
    tables(
        (
            ("POLICY", "TIER", "RULE", "ACTION", "POD", "PEER", "PORT", "PLACE", "NOT JUDGED"),
            ((step.policy, step.tier if len(tiers) > 1 else None, *_step(step)) for step in half.trail),
        )
    )


def _step(step: "Step") -> tuple[str | None, ...]:
    from deploy.reports.wording import place

    written = place(step.file, step.line)
    if step.where is None:
        return None, "isolates", None, None, None, written, None
    pod = None if step.subject == "yes" else step.subject
    return step.where, step.action, pod, step.peer, step.traffic, written, ", ".join(step.unjudged)


def _seen(pair: "Pair", engines: tuple[str, ...]) -> Iterator[str]:
    """Yield what the client sees where some engine denies, by what that engine does."""
    from deploy.semantics.profiles import profile

    verdicts = [half.verdict for half in pair.halves]
    told = (one.engines or tuple((name, one.outcome) for name in engines) for one in verdicts)
    denying = sorted({name for outcomes in told for name, outcome in outcomes if outcome == "denied"})
    known = {"drop": "a time-out", "reject": "a refusal", None: "a time-out or a refusal"}
    seen: dict[str, list[str]] = {}
    for name in denying:
        seen.setdefault(known[profile(name).denies_with], []).append(name)
    if seen:
        where = "" if pair.outcome == "denied" else "where it is denied, "
        yield f"{where}the client sees " + "; ".join(
            f"{what} ({', '.join(names)})" for what, names in sorted(seen.items())
        )


def _rules(policies: str, name: str, learned: str | None, form: str) -> int:
    from deploy.explain import explain_rule
    from podfence.output import command, data, next_step, plural, put, say

    found = explain_rule(policies, name, learned=learned)
    if form == "table":
        _show_rules(found)
    elif form == "markdown":
        from deploy.reports import markdown

        put(markdown.explanation(found).removesuffix("\n"))
    else:
        data(found.json(), form)
    count = len({ground.id for rule in found.rules for ground in rule.grounds})
    state = f", {found.state.lower()}" if found.state else ""
    more = f"; {plural(len(found.left_out), 'pattern')} seen and not allowed" if found.left_out else ""
    say(f"{found.workload}{state}: {plural(len(found.rules), 'rule')} resting on {plural(count, 'pattern')}{more}")
    if found.note:
        say(f"{found.workload}: {found.note}")
    next_step(command("podfence", "learn", "RECORDING", "--out", "DIR", "--decisions", "decisions.yaml"))
    return 0


def _show_rules(found: "Explanation") -> None:
    from deploy.reports.wording import place
    from podfence.output import tables

    tables(
        (
            ("RULE", "PEER", *_GROUND, "PLACE", "BEYOND WHAT WAS SEEN"),
            (
                (rule.where, rule.peer, *_ground(ground), place(rule.file, rule.line), rule.over_permission)
                for rule in found.rules
                for ground in rule.grounds
            ),
        ),
        (
            ("NOT ALLOWED", "DESTINATION", *_GROUND, "OBSTACLE"),
            ((one.source, one.destination, *_ground(one), one.obstacle) for one in found.left_out),
        ),
    )


_GROUND = (
    "PORT",
    "DECISION",
    "ANSWERED",
    "WINDOWS",
    "DAYS",
    "REPLICAS",
    "FIRST SEEN",
    "LAST SEEN",
    "DNS NAMES",
    "REASONS",
)


def _ground(one: "Ground") -> tuple[object, ...]:
    from deploy.findings import rfc3339

    first, last = (None if time is None else f"{rfc3339(time)[:19]}Z" for time in (one.first_seen, one.last_seen))
    return (
        *(one.port, one.decision, f"{one.answered}/{one.attempts}", f"{one.windows_seen}/{one.windows_exposed}"),
        *(one.days, f"{one.replicas_seen}/{one.replicas_exposed}", first, last),
        *(", ".join(one.dns_names), ",".join(one.reasons)),
    )
