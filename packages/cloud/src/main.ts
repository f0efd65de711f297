/**
 * The embedded AWS as one process: settings → store → services → fabric → listeners → host door → keepers.
 * `node packages/cloud/src/main.ts <settings.json>`. With `--no-fabric` it serves the APIs and keeps state without packets or instances, and
 * control planes have only their host door (no root needed; for API conformance tests and for trying it out).
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createLog } from "@underlay/log/log";
import { openCloud } from "./cloud.ts";
import { handleFaults } from "./faults/faults-door.ts";
import { readSettings } from "./settings.ts";

const [file, ...flags] = process.argv.slice(2);
if (file === undefined) throw new Error("usage: main.ts <settings.json> [--no-fabric]");

const log = createLog("cloud");
const settings = readSettings(file);
const cloud = await openCloud(settings, { packets: !flags.includes("--no-fabric"), log });

const door = createServer((request, response) => {
  if (!handleFaults(cloud.faults, settings.secretAccessKey, request, response))
    cloud.handleAwsRequest(request, response);
});
door.keepAliveTimeout = 60_000;
door.on("error", (err) => {
  log.error("cannot open the host door", { port: settings.apiPort, err });
  process.exit(1);
});
door.listen(settings.apiPort, "127.0.0.1", () => {
  const { port } = door.address() as AddressInfo;
  log.info("AWS API is ready", { endpoint: `http://127.0.0.1:${port}`, region: settings.region });
});

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    door.close();
    door.closeAllConnections();
    cloud.close().then(
      () => process.exit(0),
      (err: unknown) => {
        log.error("stopping failed", { err });
        process.exit(1);
      },
    );
  });
}
