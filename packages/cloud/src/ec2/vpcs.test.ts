import assert from "node:assert/strict";
import { test } from "node:test";
import { serviceCidrFor } from "../eks/clusters.ts";
import { managedMaxPods } from "../eks/nodegroups.ts";
import { maxPods } from "./instance-types.ts";
import { whyRefused } from "./vpcs.ts";

const cases: [have: string, added: string, why: "overlap" | "restricted" | undefined][] = [
  ["10.42.0.0/16", "100.64.0.0/16", undefined],
  ["10.42.0.0/16", "10.43.0.0/16", undefined],
  ["10.42.0.0/16", "10.42.8.0/24", "overlap"],
  ["10.42.0.0/16", "172.16.0.0/16", "restricted"],
  ["10.42.0.0/16", "198.19.0.0/16", "restricted"],
  ["10.1.0.0/16", "10.0.0.0/16", "restricted"],
  ["172.16.0.0/16", "172.31.0.0/16", "restricted"],
  ["192.168.0.0/16", "100.64.0.0/16", undefined],
  ["100.64.0.0/16", "10.0.0.0/16", "restricted"],
  ["100.64.0.0/16", "100.65.0.0/16", undefined],
];
for (const [have, added, why] of cases)
  test(`${added} ${why === undefined ? "may join" : `is refused (${why}) beside`} ${have}`, () =>
    assert.equal(whyRefused([have], added), why));

test("the service range avoids the VPC", () => {
  assert.equal(serviceCidrFor(["192.168.0.0/16"], undefined), "10.100.0.0/16");
  assert.equal(serviceCidrFor(["10.42.0.0/16"], undefined), "172.20.0.0/16");
  assert.equal(serviceCidrFor(["10.42.0.0/16"], "172.20.0.0/16"), "172.20.0.0/16");
  assert.throws(() => serviceCidrFor(["10.42.0.0/16"], "10.42.0.0/20"), { code: "InvalidParameterException" });
});

test("max pods follow the ENI formula and the managed cap", () => {
  assert.deepEqual(["t3.medium", "m5.large", "m5.xlarge", "m5.24xlarge"].map(maxPods), [17, 29, 58, 737]);
  assert.deepEqual(
    ["m5.large", "m5.4xlarge", "m5.24xlarge"].map((type) => managedMaxPods(type)),
    [29, 110, 250],
  );
  assert.deepEqual(
    ["m5.large", "t3.small"].map((type) => managedMaxPods(type, true)),
    [110, 110],
  );
});
