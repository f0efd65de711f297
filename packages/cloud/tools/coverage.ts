/** Prints, per service, the actions this cloud performs and those the generated models know but it does not. */
import { ec2Service } from "../src/ec2/ec2.ts";
import { eksService } from "../src/eks/eks.ts";
import { stsService } from "../src/sts/sts.ts";
import type { Kinds, World } from "../src/store/kinds.ts";
import { Store } from "../src/store/store.ts";

const world: World = {
  store: new Store<Kinds>(":memory:"),
  region: "us-west-2",
  accountId: "111122223333",
  zones: [],
  now: () => new Date(),
};
for (const service of [ec2Service(world), eksService(world, { caCertFile: "", kubePort: 0 }), stsService(world)]) {
  const known = Object.keys(service.table.operations);
  const missing = known.filter((action) => service.operations[action] === undefined);
  const done = Object.entries(service.operations).sort(([a], [b]) => (a < b ? -1 : 1));
  process.stdout.write(`${service.name}: ${done.length} actions\n`);
  for (const [action, { takes }] of done) process.stdout.write(`  ${action}(${takes.join(", ")})\n`);
  process.stdout.write(`  in the model, not performed: ${missing.join(", ") || "none"}\n`);
}
