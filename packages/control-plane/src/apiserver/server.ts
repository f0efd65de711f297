/**
 * Puts the API server together: store, registry, seams, router, bootstrap, listeners. No process matters here (main.ts),
 * so tests can run it in their own process.
 */
import { createServer, type Server } from "node:https";
import { mkdirSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createLog, type Log } from "@underlay/log/log";
import { UnderlayError } from "@underlay/log/underlay-error";
import type { ApiObject } from "./api-object.ts";
import { bootstrap } from "./bootstrap/bootstrap.ts";
import { issueServing, loadAuthority, servingNames, writeKubeconfigs } from "./certificates/certificates.ts";
import { createObjectReader, createObjectWriter } from "./registry/own-access.ts";
import { Registry } from "./registry/registry.ts";
import { createResourceTable } from "./registry/resource-table.ts";
import { fieldsOf } from "./registry/selectable-fields.ts";
import { createServiceAllocator } from "./registry/service-allocation.ts";
import { createStrategies } from "./registry/strategy.ts";
import { createRouter } from "./routes/router.ts";
import { createSeams } from "./seam-factories.ts";
import type { Seams, ServerContext } from "./seams.ts";
import type { Settings } from "./settings.ts";
import { Store } from "./store/store.ts";
import { expireEvents } from "./registry/event-expiry.ts";

export type ApiServer = {
  /** Port of the host door. */
  readonly port: number;
  /** Listens on a second address (0.0.0.0:443 once inside the namespace). */
  listen(port: number, address: string): Promise<void>;
  close(): Promise<void>;
};

/** Starts serving on the host door; resolves when the cluster's first objects exist and kubeconfigs are written. */
export async function startApiServer(
  settings: Settings,
  options: { log?: Log; now?: () => number } = {},
): Promise<ApiServer> {
  const log = options.log ?? createLog("apiserver");
  const now = options.now ?? Date.now;
  mkdirSync(settings.stateDir, { recursive: true });
  const authority = await loadAuthority(settings);
  const resources = createResourceTable();
  const selectable = (storage: string): readonly string[] =>
    resources.findStorage(storage)?.custom?.selectableFields.map((path) => path.replace(/^\./, "")) ?? [];
  const store = new Store(join(settings.stateDir, "state.db"), {
    now,
    fieldsOf: (storage, object) => fieldsOf(storage, object, selectable(storage)),
  });
  const services = createServiceAllocator(
    settings.serviceCidr,
    store.list("/services").map((entry) => JSON.parse(entry.json) as ApiObject),
  );
  const strategies = createStrategies();
  // The registry calls admission, which reads through the registry's store: tied together once both exist.
  let seams: Seams | undefined;
  const registry = new Registry({
    store,
    strategies,
    services,
    now,
    admission: {
      admitMutating: (...args) => seams!.admitMutating(...args),
      admitValidating: (...args) => seams!.admitValidating(...args),
    },
  });
  const context: ServerContext = {
    settings,
    log,
    authority,
    resources,
    now,
    objects: createObjectReader(store),
    writer: createObjectWriter(registry, now),
    addStrategy: (key, strategy) => strategies.add(key, strategy),
  };
  seams = createSeams(context);
  seams.crds.start();

  let ready = false;
  const router = createRouter(context, registry, seams, { isReady: () => ready, version: versionOf(settings) });
  const serving = await issueServing(authority, servingNames(settings, services.nth(1)));
  const makeServer = (): Server => {
    const server = createServer({
      ...serving,
      ca: [authority.cert],
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    // Go keeps idle connections for 90 s; closing earlier from here would race with its next request.
    server.keepAliveTimeout = 120_000;
    server.requestTimeout = 0;
    server.timeout = 0;
    server.on("request", router.handle);
    server.on("upgrade", router.upgrade);
    server.on("tlsClientError", () => {});
    return server;
  };
  const servers: Server[] = [];
  const listen = async (port: number, address: string): Promise<number> => {
    const server = makeServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause: NodeJS.ErrnoException) => {
        reject(
          new UnderlayError(
            "apiserver-cannot-listen",
            `Cannot serve the Kubernetes API on ${address}:${port}: ${cause.code === "EADDRINUSE" ? "the address is in use" : cause.message}`,
            {
              hint: "End what listens there, or give another kubePort in the settings",
              cause,
            },
          ),
        );
      });
      server.listen(port, address, resolve);
    });
    servers.push(server);
    return (server.address() as AddressInfo).port;
  };
  const port = await listen(settings.kubePort, "127.0.0.1");
  const secure = settings.netns === undefined ? port : 443;
  await bootstrap(context, { address: services.nth(1), port: secure });
  await store.settled();
  ready = true;
  await writeKubeconfigs(settings, authority, port);
  const stopExpiry = expireEvents(registry, now);
  log.info("serving", { port, revision: store.revision });
  return {
    port,
    listen: async (p, address) => void (await listen(p, address)),
    async close() {
      stopExpiry();
      router.watches.closeAll();
      await Promise.all(
        servers.map(
          (server) =>
            new Promise<void>((resolve) => {
              server.close(() => resolve());
              server.closeAllConnections();
            }),
        ),
      );
      store.close();
    },
  };
}

function versionOf(settings: Settings): object {
  const [major = "1", minor = "33"] = settings.version.split(".");
  return {
    major,
    minor,
    gitVersion: `v${major}.${minor}.3-eks-3025e55`,
    gitCommit: "unknown",
    gitTreeState: "clean",
    buildDate: "2025-07-15T00:00:00Z",
    goVersion: `node${process.versions.node}`,
    compiler: "v8",
    platform: `linux/${process.arch === "arm64" ? "arm64" : "amd64"}`,
  };
}
