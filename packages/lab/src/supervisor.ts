/**
 * The supervisor of one cluster: keeps the cloud running (the cloud keeps control planes and instances, they keep the rest).
 * It holds no state: what it started carries a pid file, so the next supervisor adopts it. Arguments: state root, cluster name.
 */
import { join } from "node:path";
import { Keeper } from "@underlay/kernel/keeper";
import { createLog } from "@underlay/log/log";
import { cloudProcess } from "./programs.ts";
import { placesOf } from "./places.ts";

const [root, clusterName] = process.argv.slice(2);
if (!root || !clusterName) throw new Error("usage: supervisor.ts <state root> <cluster name>");
const places = placesOf(root, clusterName);
const log = createLog("supervisor");

const keeper = new Keeper({ onEvent: ({ name, what, ...fields }) => log.info(`${what} ${name}`, fields) });
keeper.keep("cloud", cloudProcess(places));
log.info("keeping the cloud", { stateDir: places.stateDir, log: join(places.logs, "cloud.log") });

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    keeper.letGo();
    process.exit(0);
  });
}
setInterval(() => {}, 1 << 30);
