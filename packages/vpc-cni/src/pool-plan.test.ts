import assert from "node:assert/strict";
import { test } from "node:test";
import { Datastore } from "./datastore.ts";
import {
  planAddressRelease,
  planDrain,
  planEniRemoval,
  planGrowth,
  viewPool,
  type PoolStep,
  type PoolTargets,
} from "./pool-plan.ts";

const memory = () => ({ read: () => undefined, write: () => {} });
const podOf = (name: string) => ({ namespace: "shop", name, interfacesCount: 1 });
const keyOf = (name: string) => ({ networkName: "aws-cni", containerId: name, ifName: "eth0" });

type Type = { enis: number; perEni: number; maxPods: number };
const types = {
  "t3.small": { enis: 3, perEni: 3, maxPods: 11 },
  "m5.large": { enis: 3, perEni: 9, maxPods: 29 },
  p3dn: { enis: 15, perEni: 49, maxPods: 737 },
} satisfies Record<string, Type>;

/** A node that carries plans out at once and without failing: what the pool settles to. */
class Node {
  readonly store: Datastore;
  readonly type: Type;
  readonly targets: PoolTargets;
  now = 0;
  #next = 0;
  constructor(type: Type, targets: PoolTargets, options: { prefixes?: boolean; primaryUnused?: boolean } = {}) {
    this.store = new Datastore(memory(), 30_000, options);
    this.type = type;
    this.targets = targets;
    this.#attach(0);
  }
  view() {
    const { perEni: addressesPerEni, enis: maxEni, maxPods } = this.type;
    return viewPool(this.store, this.now, { addressesPerEni, maxEni, unmanagedEnis: 0, maxPods });
  }
  run(pods: number): void {
    for (let i = 0; i < pods; i++) {
      this.settle();
      assert.ok(this.store.assign(keyOf(`p${i}`), podOf(`p${i}`), this.now, 0n), `pod ${i} gets an address`);
    }
    this.settle();
  }
  stop(from: number, to: number): void {
    for (let i = from; i < to; i++) this.store.release(keyOf(`p${i}`), this.now);
  }
  settle(): void {
    for (let pass = 0; pass < 100; pass++) {
      const steps = [
        planGrowth(this.view(), this.targets).steps,
        planAddressRelease(this.view(), this.targets).steps,
        planEniRemoval(this.view(), this.targets, this.now).steps,
      ].find((list) => list.length > 0);
      if (!steps) return;
      for (const step of steps) this.#apply(step);
    }
    assert.fail("the pool does not settle");
  }
  shape(): string {
    return this.store
      .enis()
      .map((eni) => eni.cidrs.size)
      .join("+");
  }
  #apply(step: PoolStep): void {
    if (step.do === "assign-addresses") this.#assign(step.eniId, step.count);
    else if (step.do === "assign-prefixes") this.#assign(step.eniId, step.count, true);
    else if (step.do === "attach-eni") this.#attach(step.count, step.prefixes);
    else if (step.do === "free-eni") this.store.removeEni(step.eniId);
    else if (step.do === "unassign") for (const cidr of step.cidrs) this.store.removeCidr(step.eniId, cidr);
  }
  #attach(count: number, prefixes?: true): void {
    const deviceNumber = this.store.enis().length;
    const eniId = `eni-${this.#next++}`;
    this.store.addEni({
      eniId,
      mac: "",
      deviceNumber,
      subnetId: "",
      primary: deviceNumber === 0,
      trunk: false,
      efa: false,
      excluded: false,
      createdAt: this.now,
    });
    this.#assign(eniId, count, prefixes);
  }
  #assign(eniId: string, count: number, prefixes = false): void {
    for (let i = 0; i < count; i++) {
      const n = this.#next++;
      const prefix = `10.1.${Math.floor(n / 16)}.${(n % 16) * 16}/28`;
      this.store.addCidr(eniId, prefixes ? prefix : `10.0.${Math.floor(n / 250)}.${(n % 250) + 1}/32`, {
        fallback: true,
      });
    }
  }
}

const unset = { warmEniTarget: 1, warmIpTarget: 0, minimumIpTarget: 0, warmPrefixTarget: 0 };
const warm = (warmEniTarget: number) => ({ ...unset, warmEniTarget });
const warmPrefix = (warmPrefixTarget: number) => ({ ...unset, warmPrefixTarget });
const ips = (warmIpTarget: number, minimumIpTarget: number) => ({ ...unset, warmIpTarget, minimumIpTarget });

const worked: { type: keyof typeof types; targets: PoolTargets; pods: readonly [number, string][] }[] = [
  {
    type: "t3.small",
    targets: warm(1),
    pods: [
      [0, "3"],
      [1, "3+3"],
      [3, "3+3"],
      [4, "3+3+3"],
      [9, "3+3+3"],
    ],
  },
  {
    type: "t3.small",
    targets: ips(1, 1),
    pods: [
      [0, "1"],
      [5, "3+3"],
      [9, "3+3+3"],
    ],
  },
  {
    type: "t3.small",
    targets: ips(2, 5),
    pods: [
      [0, "3+2"],
      [5, "3+3+1"],
      [9, "3+3+3"],
    ],
  },
  {
    type: "m5.large",
    targets: warm(1),
    pods: [
      [0, "9"],
      [1, "9+9"],
      [9, "9+9"],
      [10, "9+9+9"],
      [27, "9+9+9"],
    ],
  },
  {
    type: "m5.large",
    targets: ips(2, 10),
    pods: [
      [0, "9+1"],
      [8, "9+1"],
      [9, "9+2"],
      [10, "9+3"],
      [20, "9+9+4"],
    ],
  },
  {
    type: "p3dn",
    targets: ips(5, 10),
    pods: [
      [0, "10"],
      [7, "12"],
      [15, "20"],
      [45, "49+1"],
    ],
  },
  {
    type: "m5.large",
    targets: warm(0),
    pods: [
      [0, "9"],
      [9, "9+9"],
    ],
  },
  {
    type: "m5.large",
    targets: warm(2),
    pods: [
      [0, "9+9"],
      [1, "9+9+9"],
    ],
  },
];

for (const { type, targets, pods } of worked) {
  for (const [count, shape] of pods) {
    test(`pool of ${type} with ${JSON.stringify(targets)} and ${count} pods settles at ${shape}`, () => {
      const node = new Node(types[type], targets);
      node.run(count);
      assert.equal(node.shape(), shape);
    });
  }
}

test("pool returns ENIs after the cooldown when pods go, and keeps the oldest", () => {
  const node = new Node(types["m5.large"], warm(1));
  node.run(20);
  assert.equal(node.shape(), "9+9+9");
  node.now = 100_000;
  node.stop(1, 20);
  node.settle();
  assert.equal(node.shape(), "9+9+9", "nothing goes while addresses cool");
  node.now = 131_000;
  node.settle();
  assert.equal(node.shape(), "9+9");
  assert.equal(node.store.enis()[0]?.primary, true);
});

test("pool keeps an ENI younger than 60 s", () => {
  const node = new Node(types["m5.large"], warm(1));
  node.run(1);
  node.stop(0, 1);
  node.now = 59_000;
  node.settle();
  assert.equal(node.shape(), "9+9");
  node.now = 61_000;
  node.settle();
  assert.equal(node.shape(), "9");
});

test("pool counts cooling addresses as missing, so a wave of restarts grows it at once", () => {
  const node = new Node(types["m5.large"], warm(1));
  node.run(9);
  node.now = 1_000;
  node.stop(0, 9);
  assert.deepEqual(planGrowth(node.view(), warm(1)).steps, [], "9 of 18 cool, 9 are available");
  node.store.assign(keyOf("again"), podOf("again"), node.now, 0n);
  const plan = planGrowth(node.view(), warm(1));
  assert.deepEqual(plan.steps, [{ do: "attach-eni", count: 9 }]);
  assert.equal(
    plan.because,
    "18 addresses, 1 assigned, 9 cooling, 8 available: WARM_ENI_TARGET=1 wants 9 available, short; attach a network interface with 9",
  );
});

test("planGrowth() says that the interfaces are used up", () => {
  const node = new Node(types["t3.small"], warm(1));
  node.run(9);
  const plan = planGrowth(node.view(), warm(1));
  assert.deepEqual(plan.steps, []);
  assert.equal(
    plan.because,
    "9 addresses, 9 assigned, 0 cooling, 0 available: WARM_ENI_TARGET=1 wants 3 available, short, but all 3 of 3 network interfaces are in use",
  );
});

test("planGrowth() stops at max pods", () => {
  const node = new Node({ enis: 3, perEni: 9, maxPods: 9 }, warm(1));
  node.run(5);
  assert.equal(node.shape(), "9");
});

test("planGrowth() passes over an ENI whose subnet is empty", () => {
  const node = new Node(types["m5.large"], ips(2, 0));
  node.run(1);
  assert.deepEqual(planGrowth(node.view(), ips(4, 0)).steps, [{ do: "assign-addresses", eniId: "eni-0", count: 2 }]);
  assert.deepEqual(planGrowth(node.view(), ips(4, 0), { full: new Set(["eni-0"]) }).steps, [
    { do: "attach-eni", count: 2 },
  ]);
});

test("planDrain() gives back what an excluded ENI no longer needs, and its pods keep theirs", () => {
  const node = new Node(types["m5.large"], ips(0, 3));
  node.run(2);
  const [primary] = node.store.enis();
  assert.ok(primary);
  assert.deepEqual(planDrain(node.view()), []);
  primary.excluded = true;
  assert.deepEqual(planDrain(node.view()), [{ do: "unassign", eniId: "eni-0", cidrs: ["10.0.0.4/32"] }]);
});

const prefixTables: { type: keyof typeof types; targets: PoolTargets; pods: readonly [number, string][] }[] = [
  {
    type: "t3.small",
    targets: warmPrefix(1),
    pods: [
      [0, "1"],
      [1, "2"],
      [16, "2"],
      [17, "3"],
      [32, "3"],
      [33, "3+1"],
      [58, "3+2"],
    ],
  },
  {
    type: "t3.small",
    targets: ips(1, 1),
    pods: [
      [0, "1"],
      [15, "1"],
      [16, "2"],
      [58, "3+1"],
    ],
  },
  {
    type: "t3.small",
    targets: ips(7, 20),
    pods: [
      [0, "2"],
      [17, "2"],
      [58, "3+2"],
    ],
  },
  {
    type: "m5.large",
    targets: warmPrefix(1),
    pods: [
      [0, "1"],
      [1, "2"],
      [16, "2"],
      [17, "3"],
      [40, "4"],
    ],
  },
  {
    type: "m5.large",
    targets: ips(5, 10),
    pods: [
      [0, "1"],
      [1, "1"],
      [16, "2"],
      [17, "2"],
      [40, "3"],
    ],
  },
  {
    type: "m5.large",
    targets: ips(16, 0),
    pods: [
      [0, "1"],
      [1, "2"],
      [16, "2"],
      [17, "3"],
    ],
  },
  {
    type: "m5.large",
    targets: warmPrefix(0),
    pods: [
      [0, "1"],
      [15, "1"],
      [16, "2"],
    ],
  },
];

for (const { type, targets, pods } of prefixTables) {
  for (const [count, shape] of pods) {
    test(`prefixes of ${type} with ${JSON.stringify(targets)} and ${count} pods settle at ${shape}`, () => {
      const node = new Node({ ...types[type], maxPods: 110 }, targets, { prefixes: true });
      node.run(count);
      assert.equal(node.shape(), shape);
      node.now = 120_000;
      node.settle();
      assert.equal(node.shape(), shape, "and stay so");
    });
  }
}

test("prefixes go back when the pods are gone and cooled, the newest ENI empties first", () => {
  const node = new Node({ ...types["t3.small"], maxPods: 110 }, warmPrefix(1), { prefixes: true });
  node.run(58);
  node.now = 100_000;
  node.stop(4, 58);
  node.settle();
  assert.equal(node.shape(), "3+2", "nothing goes while addresses cool");
  node.now = 131_000;
  node.settle();
  assert.equal(node.shape(), "2");
});

test("the burst of 10 pods on m5.large is three steps", () => {
  const node = new Node(types["m5.large"], warm(1));
  assert.deepEqual(planGrowth(node.view(), warm(1)).steps, [{ do: "assign-addresses", eniId: "eni-0", count: 9 }]);
  node.settle();
  for (let i = 0; i < 9; i++) node.store.assign(keyOf(`p${i}`), podOf(`p${i}`), 0, 0n);
  assert.deepEqual(planGrowth(node.view(), warm(1)).steps, [{ do: "attach-eni", count: 9 }]);
  node.settle();
  node.store.assign(keyOf("p9"), podOf("p9"), 0, 0n);
  assert.deepEqual(planGrowth(node.view(), warm(1)).steps, [{ do: "attach-eni", count: 9 }]);
});

test("without a free /28 single addresses are taken, and given back before prefixes are", () => {
  const node = new Node({ ...types["m5.large"], maxPods: 110 }, warmPrefix(1), { prefixes: true });
  const plan = planGrowth(node.view(), warmPrefix(1), { fragmented: true });
  assert.deepEqual(plan.steps, [{ do: "assign-addresses", eniId: "eni-0", count: 9 }]);
  assert.match(plan.because, /WARM_PREFIX_TARGET=1 wants 16 available, short, no \/28 is free in the subnet/);
  for (let i = 0; i < 8; i++) node.store.addCidr("eni-0", `10.9.0.${i}/32`, { fallback: true });
  assert.equal(node.store.counts(0).available, 8, "they serve");
  node.settle();
  assert.equal(node.shape(), "1", "a /28 came free: the single addresses are not needed");
});

test("prefix delegation switched on keeps used single addresses and drains idle ones; off likewise", () => {
  const node = new Node({ ...types["m5.large"], maxPods: 110 }, warmPrefix(1), { prefixes: true });
  for (let i = 1; i <= 9; i++) node.store.addCidr("eni-0", `10.9.0.${i}/32`);
  assert.equal(node.store.counts(0).total, 0, "the other kind does not count");
  assert.deepEqual(planDrain(node.view()), [
    { do: "unassign", eniId: "eni-0", cidrs: Array.from({ length: 9 }, (_, i) => `10.9.0.${i + 1}/32`) },
  ]);
  assert.deepEqual(planGrowth(node.view(), warmPrefix(1)).steps, [{ do: "attach-eni", count: 1, prefixes: true }]);
  const off = new Node(types["m5.large"], warm(1));
  off.store.addCidr("eni-0", "10.9.0.16/28");
  assert.deepEqual(planDrain(off.view()), [{ do: "unassign", eniId: "eni-0", cidrs: ["10.9.0.16/28"] }]);
});

test("under custom networking the primary gives nothing and a second ENI is attached at once", () => {
  const node = new Node(types["m5.large"], warm(1), { primaryUnused: true });
  node.settle();
  assert.equal(node.shape(), "0+9");
  node.run(9);
  assert.equal(node.shape(), "0+9+9");
});
