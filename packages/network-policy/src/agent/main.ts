/**
 * The container aws-eks-nodeagent of aws-node: enforces network policies on its node. With policies off it only answers (the
 * plugin: "success", probes, metrics) and takes back what an earlier run left in the kernel.
 *
 * Ends on SIGTERM and leaves the rules in force; the next process takes them over. Read next: agent.ts.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentLog } from "./agent-log.ts";
import type { Enforcement } from "./enforcement.ts";
import { callSocket, servePlugin } from "./plugin-door.ts";
import type { Mode } from "./plan.ts";
import { readSettings, type HostPort, type Settings } from "./settings.ts";

const modes: readonly Mode[] = ["standard", "strict", "none"];

async function main(): Promise<void> {
  const settings = readSettings(process.argv.slice(2), process.env);
  const log = new AgentLog(settings.logFile, settings.logLevel);
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => {
      stop.abort();
      process.exit(0);
    });
  }
  mkdirSync(dirname(settings.agentSocket), { recursive: true });
  let enforcement: Enforcement | undefined;
  let isOff = !settings.enabled;
  serveText(settings.health, (path) => (path === "/healthz" || path === "/readyz" ? "ok" : undefined));
  serveText(settings.metrics, (path) =>
    path === "/metrics" ? (enforcement?.metrics.registry.metrics() ?? "") : undefined,
  );
  servePlugin(settings.agentSocket, async (request) => {
    if (isOff) return;
    if (enforcement === undefined)
      throw new Error("Cannot enforce policies yet: the agent waits for ipamd to tell the mode");
    const pod = {
      name: request.K8S_POD_NAME,
      namespace: request.K8S_POD_NAMESPACE,
      addresses: request.addresses,
      hostVeth: request.hostVeth,
    };
    if (request.method === "EnforceNpToPod") await enforcement.agent.enforce(pod);
    else enforcement.agent.release(pod);
  });
  const mode = settings.enabled ? await readMode(settings, log) : "none";
  isOff = mode === "none";
  log.event("info", "starting", {
    node: settings.nodeName,
    enabled: settings.enabled,
    mode,
    eventLogs: settings.eventLogs,
  });
  const marker = `${dirname(settings.agentSocket)}/network-policy-in-force`;
  const { startEnforcement, removePolicyTable } =
    isOff && !existsSync(marker) ? nothing : await import("./enforcement.ts");
  if (isOff) {
    removePolicyTable();
    rmSync(marker, { force: true });
    return;
  }
  writeFileSync(marker, "");
  enforcement = await startEnforcement(settings, mode, log, stop.signal);
}

/** With policies off and nothing left behind, none of it is loaded. */
const nothing = {
  removePolicyTable: (): void => {},
  startEnforcement: (): never => {
    throw new Error("Cannot enforce policies: they are off");
  },
};

/** ipamd has NETWORK_POLICY_ENFORCING_MODE; it may start after us. */
async function readMode(settings: Settings, log: AgentLog): Promise<Mode> {
  for (let attempt = 0; ; attempt++) {
    try {
      const answer = (await callSocket(settings.ipamdSocket, { method: "GetNetworkPolicyConfigs" }, 2_000)) as {
        NetworkPolicyMode?: string;
      };
      const mode = answer.NetworkPolicyMode || "standard";
      if (!modes.includes(mode as Mode)) throw new Error(`Cannot use the mode ${JSON.stringify(mode)} ipamd tells`);
      return mode as Mode;
    } catch (err) {
      if (attempt % 50 === 49) log.event("warn", "ipamd does not tell the network policy mode yet", { err });
      await sleep(100);
    }
  }
}

function serveText({ host, port }: HostPort, page: (path: string) => string | Promise<string> | undefined): void {
  const server = createServer((request, response) => {
    const text = page((request.url ?? "/").split("?")[0] ?? "/");
    if (text === undefined) {
      response.writeHead(404).end();
      return;
    }
    void Promise.resolve(text).then((body) =>
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(body),
    );
  });
  server.on("error", (error) => process.stderr.write(`Cannot serve on port ${port}: ${error.message}\n`));
  server.listen(port, host);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
}
