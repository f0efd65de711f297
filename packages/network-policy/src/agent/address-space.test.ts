import assert from "node:assert/strict";
import { test } from "node:test";
import { contains } from "@underlay/addr/cidr";
import { parseIp } from "@underlay/addr/ip";
import { addressSpace, elementsOf, findPorts, type Allowance } from "./address-space.ts";
import { allows } from "./port-set.ts";

const tcp = (port: number, endPort?: number) => ({ protocol: "TCP", port, ...(endPort && { endPort }) });

const tables: readonly [string, readonly Allowance[], { whole: string[]; ports: string[] }][] = [
  ["nothing", [], { whole: [], ports: [] }],
  ["a bare address, all of it", [{ cidr: "10.0.0.1" }], { whole: ["10.0.0.1 . 0-255"], ports: [] }],
  ["host bits set", [{ cidr: "10.0.0.9/24", ports: [tcp(80)] }], { whole: [], ports: ["10.0.0.0/24 . 6 . 80"] }],
  [
    "a protocol without a port",
    [{ cidr: "10.0.0.0/8", ports: [{ protocol: "UDP" }, tcp(1, 9)] }],
    { whole: ["10.0.0.0/8 . 17"], ports: ["10.0.0.0/8 . 6 . 1-9"] },
  ],
  [
    "ports inside an open block vanish in it",
    [{ cidr: "10.0.0.0/8" }, { cidr: "10.1.0.0/16", ports: [tcp(80)] }],
    { whole: ["10.0.0.0/8 . 0-255"], ports: [] },
  ],
  [
    "a hole in the middle",
    [{ cidr: "10.0.0.0/30", except: ["10.0.0.1"] }],
    { whole: ["10.0.0.0 . 0-255", "10.0.0.2/31 . 0-255"], ports: [] },
  ],
  [
    "a hole that another block fills",
    [
      { cidr: "10.0.0.0/30", except: ["10.0.0.1/32"] },
      { cidr: "10.0.0.1", ports: [tcp(80)] },
    ],
    { whole: ["10.0.0.0 . 0-255", "10.0.0.2/31 . 0-255"], ports: ["10.0.0.1 . 6 . 80"] },
  ],
  [
    "ranges that meet",
    [{ cidr: "10.0.0.1", ports: [tcp(80, 90), tcp(91), { port: 443 }] }],
    { whole: [], ports: ["10.0.0.1 . 6 . 80-91", "10.0.0.1 . 6 . 443"] },
  ],
  ["an unknown protocol", [{ cidr: "10.0.0.1", ports: [{ protocol: "GRE", port: 1 }] }], { whole: [], ports: [] }],
  ["the other family", [{ cidr: "fd00::/8" }], { whole: [], ports: [] }],
];
for (const [what, allowances, expected] of tables) {
  test(`addressSpace() reads ${what}`, () => assert.deepEqual(elementsOf(addressSpace(4, allowances)), expected));
}

test("addressSpace() reads IPv6 to its last address", () => {
  assert.deepEqual(elementsOf(addressSpace(6, [{ cidr: "::/0", ports: [tcp(80)] }])), {
    whole: [],
    ports: ["::/0 . 6 . 80"],
  });
});

test("addressSpace() says of every address what reading the allowances one by one says", () => {
  let seed = 7;
  const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  for (let round = 0; round < 300; round++) {
    const block = (): string => `10.0.0.${random(32)}/${28 + random(5)}`;
    const allowances: Allowance[] = Array.from({ length: 1 + random(6) }, () => ({
      cidr: block(),
      except: Array.from({ length: random(3) }, block),
      ports: Array.from({ length: random(3) }, () => ({
        protocol: ["TCP", "UDP"][random(2)] as string,
        port: 1 + random(4),
      })),
    }));
    const space = addressSpace(4, allowances);
    for (const [index, one] of space.intervals.entries()) {
      const next = space.intervals[index + 1];
      assert.ok(one.start <= one.end && (next === undefined || one.end < next.start), "disjoint and ascending");
    }
    for (let last = 0; last < 40; last++) {
      const address = `10.0.0.${last}`;
      for (const [name, number] of [
        ["TCP", 6],
        ["UDP", 17],
        ["ICMP", 1],
      ] as const) {
        for (let port = 1; port <= 4; port++) {
          const plain = allowances.some(
            ({ cidr, except = [], ports = [] }) =>
              contains(cidr, address) &&
              !except.some((hole) => contains(hole, address)) &&
              (ports.length === 0 || ports.some((one) => one.protocol === name && one.port === port)),
          );
          const set = findPorts(space, parseIp(address).value);
          assert.equal(
            set !== undefined && allows(set, number, port),
            plain,
            `${address} ${name} ${port} of ${JSON.stringify(allowances)}`,
          );
        }
      }
    }
  }
});
