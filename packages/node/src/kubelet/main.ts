/** The kubelet's process: `main.ts` on an instance (IMDS tells everything), or `main.ts --settings FILE --kubeconfig FILE`. */
import module from "node:module";
import { parseArgs } from "node:util";

module.enableCompileCache?.();
const { values } = parseArgs({ options: { settings: { type: "string" }, kubeconfig: { type: "string" } } });
const { createLog } = await import("@underlay/log/log");
const { bootstrap, bootstrapFromFiles } = await import("./bootstrap.ts");
const { Kubelet } = await import("./kubelet.ts");
const { standardPlaces } = await import("./places.ts");

const log = createLog("kubelet");
const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => stop.abort());
process.on("unhandledRejection", (err) => log.error("unhandled rejection", { err }));

const given =
  values.settings && values.kubeconfig
    ? await bootstrapFromFiles(values.settings, values.kubeconfig)
    : await bootstrap(process.env, log);
const kubelet = new Kubelet(given, standardPlaces, log);
// The cache is otherwise written at a clean exit only, which a kubelet rarely has.
setTimeout(() => module.flushCompileCache?.(), 5000).unref();
await kubelet.run(stop.signal);
process.exit(0);
