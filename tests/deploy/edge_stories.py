"""Random recordings in which much changes while pods talk, and random policies that look at all of it."""

import random
from typing import Any

from tests.deploy.world import calico, kubernetes
from tests.recordings import Story

SPACES = ("shop", "mon")
NODES = ("node-a", "node-b")
OTHERS = (
    *("203.0.113.7", "203.0.113.0/25", "203.0.113.0/24", "2001:db8::1", "10.0.0.0/8"),
    *("node/node-a", "node/node-b", "apiserver"),
    *("unresolved/10.0.9.9", "ambiguous/10.0.9.8", "overflow/10.0.9.7", "multicast/224.0.0.251"),
)
TIMES = (5, 65, 125, 185, 245, 305)


class Stories:
    """Tells one story; `varied`: a port name may stand for different numbers on different pods."""

    def __init__(self, dice: random.Random, *, varied: bool) -> None:
        self.dice = dice
        self.varied = varied
        self.story = Story()
        self.names: list[str] = []

    def tell(self, talks: int = 14) -> Story:
        """Return a small cluster: who talks before anything changes, and who after."""
        self._spaces()
        for number in range(6):
            self._pod(number)
        self._services((0, 140))
        self._talk(talks, TIMES[:2])
        for name in self.names:
            self._changed(name)
        self._services((140, None))
        self._talk(talks, TIMES)
        return self.story

    def _spaces(self) -> None:
        for name in SPACES:
            for start, end in ((0, 150), (150, None)):
                labels = {"zone": self.dice.choice(("old", "new"))}
                self.story.add("Namespace", name, {"metadata": {"labels": labels}}, start=start, end=end)
            if name == "shop":
                for start, end in ((0, 90), (90, None)):
                    labels = {"role": self.dice.choice("ab")}
                    body = {"metadata": {"labels": labels}}
                    self.story.add("ServiceAccount", f"{name}/default", body, start=start, end=end)

    def _pod(self, number: int) -> None:
        dice = self.dice
        name = f"{dice.choice(SPACES)}/p{number}"
        # The last namespace is one that nobody knows.
        name = name if dice.random() < 0.95 else f"lost/p{number}"
        self.story.pod(
            name,
            owner=f"Deployment/{dice.choice(('web', 'db'))}",
            labels={"app": dice.choice("ab"), "tier": dice.choice("xy")},
            ports=self._ports(),
            node=dice.choice(NODES),
            ip=f"fd00::{number + 1}" if dice.random() < 0.15 else None,
            host_network=dice.random() < 0.1,
            end=dice.choice((None, None, 200)),
        )
        self.names.append(name)

    def _ports(self) -> list[tuple[str, int, str]]:
        return [("main", self.dice.choice((80, 81)) if self.varied else 80, "TCP")]

    def _changed(self, name: str) -> None:
        """Give a pod other labels, or put another one of its name in its place."""
        dice, one = self.dice, self.story.pods[name]
        kind = dice.random()
        if kind > (0.5 if one.end is None else 0.8) or one.host_network:
            return
        owner = f"{one.owner_kind}/{one.owner_name}"
        labels = {"app": dice.choice("ab")}
        if one.end is None:
            self.story.pod(name, owner=owner, labels=labels, ports=self._ports(), node=str(one.node), start=120)
        else:
            uid, ip = f"{one.uid}-2", f"10.0.7.{self.names.index(name) + 1}"
            named = {"owner": owner, "labels": labels, "ports": self._ports(), "node": str(one.node)}
            self.story.pod(name, uid=uid, ip=ip, start=dice.choice((220, 230, 240)), **named)

    def _services(self, time: tuple[int, int | None]) -> None:
        dice, (start, end) = self.dice, time
        for number, space in enumerate(SPACES):
            backends = [one for one in self.names if one.startswith(space) and dice.random() < 0.5]
            more: dict[str, Any] = {"ip": f"10.96.0.{number + 1}", "start": start, "end": end}
            if dice.random() < 0.9:
                more["selector"] = {"app": dice.choice("ab")}
            self.story.service(
                f"{space}/svc", port=80 + number, target=dice.choice((80, 81)), backends=backends, **more
            )
            if dice.random() < 0.4:
                self._slice(f"{space}/svc", dice.choice(("203.0.113.7", "192.168.0.1", "10.0.9.9")), start, end)

    def _slice(self, service: str, address: str, start: float, end: float | None) -> None:
        """Add a slice with an address that is no known pod's."""
        namespace, name = service.split("/")
        endpoint: dict[str, Any] = {"addresses": [address]}
        if address == "10.0.9.9":
            endpoint["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": "gone", "uid": "uid-gone"}
        body = {
            "metadata": {"labels": {"kubernetes.io/service-name": name}},
            "endpoints": [endpoint],
            "ports": [{"name": "main", "port": 8080, "protocol": "TCP"}],
        }
        self.story.add("EndpointSlice", f"{namespace}/{name}-more-{start:g}", body, start=start, end=end)

    def _talk(self, count: int, times: tuple[int, ...]) -> None:
        for _ in range(count):
            self._say(times)

    def _say(self, times: tuple[int, ...]) -> None:
        dice = self.dice
        source, target, kind = dice.choice(self.names), dice.choice(self.names), dice.randrange(10)
        more: dict[str, Any] = {"answered": dice.choice((1, 1, 3, 0)), "unanswered": dice.choice((0, 1))}
        protocol = dice.choice(("tcp", "tcp", "tcp", "udp", "sctp", "icmp"))
        port = None if protocol == "icmp" else dice.choice((80, 81))
        if protocol == "icmp":
            more["icmp"] = (dice.choice((8, 3)), 0)
        sides = dice.choice((["src", "dst"], ["src"], ["dst"], ["unknown"]))
        if kind == 0:
            target = dice.choice(OTHERS)
        elif kind == 1:
            source = dice.choice(OTHERS)
        elif kind == 2:
            at = f"deferred/{self.story.pods[target].ips[0]}"
            source, target = (source, at) if dice.random() < 0.5 else (at, target)
        elif kind in (3, 4):
            target = f"service/{dice.choice(SPACES)}/svc"
            protocol, port, sides = "tcp", self.story.services[target.removeprefix("service/")]["port"], ["src"]
            more.pop("icmp", None)
        elif kind in (5, 6):
            protocol, port, sides = "tcp", dice.choice((80, 81)), ["src"]
            more = {"service": f"{dice.choice(SPACES)}/svc"}
            if kind == 6 and dice.random() < 0.5:
                more |= {"dialled_ip": "192.168.0.1", "dialled_port": 30080}
        elif kind == 7:
            more["snat_ip"] = "192.168.0.1"
        elif kind == 8:
            source = f"node/{dice.choice(NODES)}"
        if source == target and "service" not in more:
            return
        at = sorted(dice.sample(times, dice.randint(1, 2)))
        self.story.talk(source, target, port, at=at, protocol=protocol, sides=sides, **more)


PEERS = (
    "{podSelector: {matchLabels: {app: a}}}",
    "{namespaceSelector: {matchLabels: {zone: old}}}",
    "{namespaceSelector: {}, podSelector: {matchLabels: {tier: x}}}",
    "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.64/26]}}",
    "{ipBlock: {cidr: 10.0.0.0/8}}",
    "{ipBlock: {cidr: 'fd00::/64'}}",
    "{ipBlock: {cidr: 192.168.0.0/16}}",
)
CALICO = (
    "selector: app == 'a'\norder: 10\ningress: [{action: Deny, source: {selector: tier == 'y'}}, {action: Pass}]",
    "order: 5\negress: [{action: Allow, destination: {services: {name: svc, namespace: shop}}}, {action: Pass}]",
    "ingress: [{action: Allow, source: {serviceAccounts: {selector: role == 'a'}}}]",
    "serviceAccountSelector: role == 'a'\norder: 20\negress: [{action: Allow, protocol: ICMP, icmp: {type: 8}}]",
    "egress: [{action: Deny, destination: {notNets: [10.0.0.0/8]}}, {action: Allow, protocol: TCP, destination: {ports: [main]}}]",
)


def written(dice: random.Random, *, dialects: int = 1, prefix: str = "k") -> str:
    """Return a few policies that look at labels, namespaces, blocks and port names, as YAML; of two dialects when asked for."""
    text = ""
    for number in range(dice.randint(1, 3)):
        ports = dice.choice(
            ("", "", ", ports: [{port: 80}]", ", ports: [{port: main}]", ", ports: [{port: 80, endPort: 90}]")
        )
        direction, side = dice.choice((("ingress", "from"), ("egress", "to")))
        selector = dice.choice(("{}", "{matchLabels: {app: b}}"))
        peers = ", ".join(dice.sample(PEERS, dice.randint(1, 2)))
        spec = (
            f"podSelector: {selector}\npolicyTypes: [{direction.title()}]\n{direction}: [{{{side}: [{peers}]{ports}}}]"
        )
        text += kubernetes(spec, f"{prefix}{number}", dice.choice(SPACES))
    for number in range(dice.randint(0, 2) if dialects > 1 else 0):
        text += calico(dice.choice(CALICO), f"{prefix}c{number}", dice.choice(SPACES))
    return text
