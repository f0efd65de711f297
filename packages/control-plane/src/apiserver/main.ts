/**
 * The API server's process: `node main.ts <settings.json>` (settings.ts). Opens the host door, then moves into the
 * cluster's network namespace and serves there on 443. SIGTERM stops it; a kill loses nothing that was answered.
 */
import { createLog } from "@underlay/log/log";
import { startApiServer } from "./server.ts";
import { readSettings } from "./settings.ts";

const log = createLog("apiserver");
const file = process.argv[2];
if (file === undefined) {
  log.error("Cannot start: no settings file was given; run main.ts <settings.json>");
  process.exit(2);
}

try {
  const settings = readSettings(file);
  const server = await startApiServer(settings, { log });
  if (settings.netns !== undefined) {
    // Imported here: alone on a machine there is no namespace and no need for FFI.
    const { enterNetns } = await import("@underlay/kernel/netns");
    await enterNetns(settings.netns);
    await server.listen(443, "0.0.0.0");
    log.info("serving in the cluster's namespace", { netns: settings.netns });
  }
  const stop = (signal: string): void => {
    log.info("stopping", { signal });
    server.close().then(
      () => process.exit(0),
      (err: unknown) => {
        log.error("could not stop cleanly", { err });
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", () => stop("SIGTERM"));
  process.on("SIGINT", () => stop("SIGINT"));
} catch (err) {
  log.error("Cannot start the API server", { err, settings: file });
  process.exit(1);
}
