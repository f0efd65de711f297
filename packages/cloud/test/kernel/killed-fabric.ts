/** A fabric to be killed at work: applies a state from argv[3] again and again, taking instances away and bringing them back. */
import { readFileSync } from "node:fs";
import { openFabric } from "../../src/fabric/fabric.ts";
import type { FabricState } from "../../src/fabric/seam.ts";

const [clusterId = "", file = ""] = process.argv.slice(2);
const state = JSON.parse(readFileSync(file, "utf8")) as FabricState;
const fabric = await openFabric({ clusterId, stateDir: "", auditMs: 0 });
process.stdout.write("working\n");
for (;;) {
  await fabric.apply(
    {
      ...state,
      vpcs: [],
      subnets: [],
      securityGroups: [],
      routeTables: [],
      enis: [],
      instances: [],
      natGateways: [],
      internetGateways: [],
    },
    "everything",
  );
  await fabric.apply(state, "everything");
}
