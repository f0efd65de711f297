/** Random clusters for tests: few names and addresses, so that everything collides with everything. Same seed, same cluster. */
import type { Namespace, NetworkPolicy, Pod, Service } from "@underlay/kube/objects";
import type { Packet } from "../semantics/verdict.ts";

export type TestCluster = { namespaces: Namespace[]; pods: Pod[]; services: Service[]; policies: NetworkPolicy[] };
type Spec = NonNullable<NetworkPolicy["spec"]>;
type Peer = NonNullable<NonNullable<Spec["egress"]>[number]["to"]>[number];
type Port = NonNullable<NonNullable<Spec["egress"]>[number]["ports"]>[number];
type Labels = Record<string, string>;

const protocols = ["TCP", "UDP", "SCTP"] as const;
const portNames = ["http", "dns"];
const numbers = [53, 80, 81, 443, 8080];
const nodeAddresses = ["10.0.0.1", "10.0.0.2"];
const outside = ["192.0.2.10", "10.0.1.200", "2001:db8::99", "198.51.100.7"];

export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** mulberry32 */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  below(n: number): number {
    return Math.floor(this.next() * n);
  }
  chance(p: number): boolean {
    return this.next() < p;
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
  some<T>(items: readonly T[], p = 0.5): T[] {
    return items.filter(() => this.chance(p));
  }
  list<T>(max: number, make: () => T): T[] {
    return Array.from({ length: this.below(max + 1) }, make);
  }
}

export function randomCluster(random: Random): TestCluster {
  const namespaces = ["x", "y", "z"].map((name) => ({
    metadata: { name, labels: { "kubernetes.io/metadata.name": name, ...randomLabels(random) } },
  }));
  const pods = namespaces.flatMap(({ metadata }) =>
    ["a", "b", "c"].map((name) => ({ name, namespace: metadata.name })),
  );
  return {
    namespaces,
    pods: pods.map(({ name, namespace }, index) => randomPod(random, namespace, name, index)),
    services: random.list(4, () => randomService(random, random.pick(["x", "y", "z"]))),
    policies: Array.from({ length: 1 + random.below(5) }, (_, index) => ({
      metadata: { name: `p${index}`, namespace: random.pick(["x", "y", "z"]), uid: `uid-${index}` },
      spec: randomSpec(random),
    })),
  };
}

/** Every pair of addresses somebody has, with a few protocols and ports. */
export function randomPackets(random: Random, { pods }: TestCluster, count: number): Packet[] {
  const addresses = [
    ...pods.flatMap(({ status }) => (status?.podIPs ?? []).map(({ ip }) => ip)),
    ...outside,
    ...nodeAddresses,
  ];
  const packets: Packet[] = [];
  while (packets.length < count) {
    const source = random.pick(addresses);
    const destination = random.pick(addresses);
    if (source.includes(":") !== destination.includes(":")) continue;
    const protocol = random.chance(0.1) ? "ICMP" : random.pick(protocols);
    packets.push({ source, destination, protocol, ...(protocol === "ICMP" ? {} : { port: random.pick(numbers) }) });
  }
  return packets;
}

export function randomLabels(random: Random): Labels {
  const labels: Labels = {};
  for (const key of random.some(["app", "tier"], 0.8)) labels[key] = random.pick(["a", "b", "c", ""]);
  return labels;
}

export function randomPod(random: Random, namespace: string, name: string, index: number): Pod {
  const hostNetwork = random.chance(0.1);
  const hostIP = random.pick(nodeAddresses);
  const addresses = hostNetwork
    ? [hostIP]
    : [`10.0.1.${index + 1}`, ...(random.chance(0.5) ? [`2001:db8::${index + 1}`] : [])];
  const hasAddress = random.chance(0.93);
  return {
    metadata: { name, namespace, uid: `${namespace}-${name}`, labels: randomLabels(random) },
    spec: {
      ...(hostNetwork ? { hostNetwork } : {}),
      containers: [{ name: "main", ports: randomContainerPorts(random) }],
      ...(random.chance(0.3)
        ? {
            initContainers: [
              {
                name: "side",
                ports: randomContainerPorts(random),
                ...(random.chance(0.5) ? { restartPolicy: "Always" } : {}),
              },
            ],
          }
        : {}),
    },
    status: {
      phase: random.chance(0.1) ? random.pick(["Succeeded", "Failed"]) : "Running",
      hostIP,
      ...(hasAddress ? { podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) } : {}),
    },
  };
}

function randomContainerPorts(random: Random): { name?: string; containerPort: number; protocol: string }[] {
  return random.some(portNames, 0.6).map((name) => ({
    name,
    containerPort: random.pick(numbers),
    protocol: random.chance(0.8) ? "TCP" : "UDP",
  }));
}

function randomService(random: Random, namespace: string): Service {
  return {
    metadata: { name: `s${random.below(100)}`, namespace },
    spec: {
      clusterIP: random.chance(0.2) ? "None" : `172.20.0.${1 + random.below(200)}`,
      selector: randomLabels(random),
      ports: [{ port: random.pick(numbers), targetPort: random.pick([...numbers, ...portNames]), protocol: "TCP" }],
    },
  };
}

export function randomSpec(random: Random): Spec {
  return {
    podSelector: random.chance(0.3) ? {} : randomSelector(random),
    policyTypes: random.pick([["Ingress"], ["Egress"], ["Ingress", "Egress"], []]),
    ...(random.chance(0.85) ? { ingress: random.list(3, () => randomRule(random, "from")) } : {}),
    ...(random.chance(0.7) ? { egress: random.list(3, () => randomRule(random, "to")) } : {}),
  };
}

function randomRule(random: Random, side: "from" | "to"): { from?: Peer[]; to?: Peer[]; ports?: Port[] } {
  return {
    ...(random.chance(0.75) ? { [side]: random.list(3, () => randomPeer(random)) } : {}),
    ...(random.chance(0.65) ? { ports: random.list(3, () => randomPort(random)) } : {}),
  };
}

function randomPeer(random: Random): Peer {
  if (random.chance(0.3)) return { ipBlock: randomBlock(random) };
  const which = random.below(3);
  return {
    ...(which !== 1 ? { podSelector: randomSelector(random) } : {}),
    ...(which !== 0 ? { namespaceSelector: randomSelector(random) } : {}),
  };
}

function randomBlock(random: Random): { cidr: string; except?: string[] } {
  const [cidr, holes] = random.pick([
    ["0.0.0.0/0", ["10.0.1.0/29", "192.0.2.0/24", "10.0.0.0/16"]],
    ["10.0.1.0/24", ["10.0.1.4/30", "10.0.1.1/32", "10.0.1.8/29"]],
    ["10.0.1.5/29", ["10.0.1.2/31"]], // host bits set
    ["::/0", ["2001:db8::/125"]],
    ["2001:db8::/120", ["2001:db8::4/126"]],
    ["10.0.0.2/32", []],
  ] as [string, string[]][]);
  const except = random.some(holes);
  return except.length > 0 ? { cidr, except } : { cidr };
}

function randomPort(random: Random): Port {
  const protocol = random.chance(0.7) ? "TCP" : random.chance(0.8) ? random.pick(protocols) : undefined;
  const what = random.below(6);
  return {
    ...(protocol ? { protocol } : {}),
    ...(what === 0 ? {} : what <= 2 ? { port: random.pick(portNames) } : { port: random.pick(numbers) }),
    ...(what === 5 ? { port: 80, endPort: random.pick([80, 81, 443]) } : {}),
  };
}

function randomSelector(random: Random): NonNullable<Peer["podSelector"]> {
  if (random.chance(0.25)) return {};
  if (random.chance(0.5)) return { matchLabels: { [random.pick(["app", "tier"])]: random.pick(["a", "b", "c", ""]) } };
  const operator = random.pick(["In", "NotIn", "Exists", "DoesNotExist"]);
  return {
    matchExpressions: [
      {
        key: random.pick(["app", "tier", "kubernetes.io/metadata.name"]),
        operator,
        ...(operator.endsWith("In") ? { values: random.some(["a", "b", "x", "y"], 0.6) } : {}),
      },
    ],
  };
}
