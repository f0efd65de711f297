/** The kubelet's process: `main.ts` on an instance (IMDS tells everything), or `main.ts --settings FILE --kubeconfig FILE`. */
import module from "node:module";
import v8 from "node:v8";
import vm from "node:vm";
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
const kubelet = new Kubelet(given, standardPlaces, log, await openRuntime());
// The cache is otherwise written at a clean exit only, which a kubelet rarely has.
setTimeout(() => module.flushCompileCache?.(), 5000).unref();
returnMemory();
await kubelet.run(stop.signal);
process.exit(0);

/** Undefined is the kubelet's own. */
async function openRuntime() {
  if (given.settings.containerRuntime !== "containerd") return undefined;
  const { CriRuntime } = await import("../cri/cri-runtime.ts");
  const { standardContainerdPlaces } = await import("../cri/containerd.ts");
  // Named by whoever booted the instance, so that it can be removed with it.
  const containerd = standardContainerdPlaces(process.env["UNDERLAY_CGROUP"] ?? `ul-${given.settings.instanceId}`);
  return CriRuntime.open({
    places: standardPlaces,
    containerd,
    region: given.settings.region,
    log,
    signal: stop.signal,
  });
}

/** A burst of pods leaves a heap that V8 keeps for the next one; a node has many small programs, so it is given back once a minute. */
function returnMemory(): void {
  v8.setFlagsFromString("--expose-gc");
  const collect = vm.runInNewContext("gc") as () => void;
  const spareBytes = 8 * 1024 * 1024;
  let heldBefore = 0;
  setInterval(() => {
    const { heapTotal, external, arrayBuffers } = process.memoryUsage();
    const held = heapTotal + external + arrayBuffers;
    if (held > heldBefore + spareBytes) collect();
    const after = process.memoryUsage();
    heldBefore = after.heapTotal + after.external + after.arrayBuffers;
  }, 60_000).unref();
}
