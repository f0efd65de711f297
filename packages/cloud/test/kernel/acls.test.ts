/** Network ACLs with packets: ordered, stateless, at the subnet's boundary only. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FabricAclEntry } from "../../src/fabric/seam.ts";
import {
  addInstance,
  addSubnet,
  addVpc,
  connect,
  copy,
  echoServer,
  emptyState,
  exchange,
  reaches,
  withFabric,
  type State,
} from "./world.ts";

const entry = (
  number: number,
  egress: boolean,
  action: "allow" | "deny",
  more: Partial<FabricAclEntry> = {},
): FabricAclEntry => ({
  number,
  egress,
  action,
  protocol: "-1",
  cidr: "0.0.0.0/0",
  ...more,
});
const tcp = (from: number, to = from) => ({ protocol: "6", ports: { from, to } });

function withAcl(state: State, subnetId: string, acl: FabricAclEntry[]): State {
  const next = copy(state);
  next.subnets = next.subnets.map((subnet) => (subnet.subnetId === subnetId ? { ...subnet, acl } : subnet));
  return next;
}

test("an ACL needs both directions, takes the lowest number first, ends what runs, and leaves its own subnet alone", async () => {
  await withFabric(async (fabric, clusterId) => {
    const state = emptyState(clusterId);
    addVpc(state, "vpc-1", "10.7.0.0/16");
    const one = addSubnet(state, "vpc-1", "10.7.1.0/24");
    const two = addSubnet(state, "vpc-1", "10.7.2.0/24");
    const a = addInstance(state, "i-a", one, { host: 10 });
    const b = addInstance(state, "i-b", two, { host: 10 });
    const c = addInstance(state, "i-c", two, { host: 11 });
    const apply = (next: State) => fabric.apply(next, { kinds: ["subnets"], ids: [two] });
    await fabric.apply(state, "everything");
    const server = await echoServer(b, "10.7.2.10", 80);
    const other = await echoServer(b, "10.7.2.10", 81);
    try {
      const running = await connect(a, "10.7.2.10", 80);
      assert.ok(running);
      assert.equal(await exchange(running, "one"), "one");

      await apply(withAcl(state, two, []));
      assert.equal(await exchange(running, "two", 500), undefined, "a flow that runs is cut: there is no state");
      running.destroy();
      assert.equal(await reaches(a, "10.7.2.10", 80), false);
      assert.equal(await reaches(c, "10.7.2.10", 80), true, "inside the subnet nobody looks");

      await apply(withAcl(state, two, [entry(100, false, "allow", tcp(80))]));
      assert.equal(await reaches(a, "10.7.2.10", 80), false, "the way back is closed");
      const back = entry(100, true, "allow", tcp(1024, 65_535));
      await apply(withAcl(state, two, [entry(100, false, "allow", tcp(80)), back]));
      assert.equal(await reaches(a, "10.7.2.10", 80), true);
      assert.equal(await reaches(a, "10.7.2.10", 81), false, "another port");
      const deny = entry(50, false, "deny", { cidr: "10.7.1.10/32" });
      await apply(withAcl(state, two, [entry(100, false, "allow", tcp(80)), back, deny]));
      assert.equal(await reaches(a, "10.7.2.10", 80), false, "50 comes before 100");
      const late = { ...deny, number: 150 };
      await apply(withAcl(state, two, [entry(100, false, "allow", tcp(80)), back, late]));
      assert.equal(await reaches(a, "10.7.2.10", 80), true);

      // Both subnets have a say: leaving the first may be forbidden too.
      await apply(withAcl(state, one, [entry(100, false, "allow")]));
      assert.equal(await reaches(a, "10.7.2.10", 80), false);
      await apply(state);
      assert.equal(await reaches(a, "10.7.2.10", 81), true);
    } finally {
      await Promise.all([server.close(), other.close()]);
    }
  });
});
