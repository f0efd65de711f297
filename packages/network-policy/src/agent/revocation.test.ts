import assert from "node:assert/strict";
import { test } from "node:test";
import type { Flow } from "@underlay/kernel/conntrack";
import { addressSpace } from "./address-space.ts";
import type { PodPlan, Profile } from "./plan.ts";
import { isDenied } from "./revocation.ts";

const profile = (cidr: string, port: number): Profile => ({
  id: "in_x",
  direction: "Ingress",
  policies: [],
  stamp: "",
  space4: addressSpace(4, [{ cidr, ports: [{ protocol: "TCP", port }] }]),
  space6: addressSpace(6, []),
});
const db: PodPlan = {
  pod: { namespace: "shop", name: "db", labels: {}, addresses: ["10.0.1.10"], hostVeth: "enidb" },
  ingress: profile("10.0.2.0/24", 3306),
};
const podAt = (address: string): PodPlan | undefined => (address === "10.0.1.10" ? db : undefined);
const flow = (src: string, dst: string, dstPort: number, more: Partial<Flow> = {}): Flow => ({
  family: 4,
  proto: 6,
  original: { src, dst: "172.20.0.1", srcPort: 40000, dstPort: 1 },
  reply: { src: dst, dst: src, srcPort: dstPort, dstPort: 40000 },
  mark: 0,
  zone: 0,
  id: 1,
  status: 0,
  ...more,
});

const table: readonly [string, Flow, boolean][] = [
  ["an allowed client, by the backend's port", flow("10.0.2.7", "10.0.1.10", 3306), false],
  ["another port", flow("10.0.2.7", "10.0.1.10", 22), true],
  ["another client", flow("10.0.3.7", "10.0.1.10", 3306), true],
  ["another protocol", flow("10.0.2.7", "10.0.1.10", 3306, { proto: 17 }), true],
  ["the node's own probe", flow("10.0.0.5", "10.0.1.10", 3306), false],
  ["what the pod opened itself", flow("10.0.1.10", "10.0.3.7", 443), false],
  ["the pod's talk with itself through a Service", flow("10.0.1.10", "10.0.1.10", 22), false],
];
for (const [what, one, expected] of table) {
  test(`isDenied() of ${what} is ${expected}`, () =>
    assert.equal(
      isDenied(one, podAt, (address) => address === "10.0.0.5"),
      expected,
    ));
}
