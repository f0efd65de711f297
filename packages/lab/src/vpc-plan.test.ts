import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultPlan } from "./cluster-file.ts";
import { planSubnets } from "./vpc-plan.ts";

test("planSubnets() cuts the workshop's VPC as the workshop does", () => {
  assert.deepEqual(
    planSubnets(defaultPlan).map((subnet) => `${subnet.public ? "public" : "private"} ${subnet.zone} ${subnet.cidr}`),
    [
      "public us-west-2a 10.42.0.0/19",
      "public us-west-2b 10.42.32.0/19",
      "public us-west-2c 10.42.64.0/19",
      "private us-west-2a 10.42.96.0/19",
      "private us-west-2b 10.42.128.0/19",
      "private us-west-2c 10.42.160.0/19",
    ],
  );
});

test("planSubnets() refuses a VPC too small for AWS's smallest subnet, and says how large it must be", () => {
  assert.throws(
    () => planSubnets({ ...defaultPlan, vpcCidr: "10.42.0.0/26" }),
    (err: Error & { hint?: string }) =>
      /each would be a \/29/.test(err.message) && err.hint === "Set vpc.cidr to a /25 or larger",
  );
});
