/**
 * The aws-node container: checks its environment, runs ipamd, and writes the conflist once ipamd serves, which is what turns
 * the node Ready. Entry point and agent are one process here; upstream has two.
 */
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defaultCredentials } from "@underlay/aws/credentials";
import { createEc2Client } from "@underlay/aws/ec2-client";
import { createImdsClient, imdsEndpoint } from "@underlay/aws/imds-client";
import { KubeClient } from "@underlay/kube/client";
import { inClusterConfig } from "@underlay/kube/config";
import { createLog, type Log } from "@underlay/log/log";
import { createClock, retry } from "./clock.ts";
import { conflistName, formatConflist } from "./conflist.ts";
import { describeFailure } from "./failure.ts";
import { installPlugin, replaceFile } from "./install.ts";
import { serveIntrospection, serveMetrics } from "./introspection.ts";
import { startIpamd, type NodeFacts } from "./ipamd.ts";
import { openLog } from "./log-file.ts";
import { nodeWithoutApi, watchNode } from "./node-facts.ts";
import { parseSettings, type Settings } from "./settings.ts";

const stopWithinMs = 3_000;
const pluginProgram = fileURLToPath(new URL("../../../.build/lua/aws-cni.lua", import.meta.url));

async function main(): Promise<void> {
  const podLog = createLog("aws-node");
  const env = process.env;
  const settings = parseSettings(env);
  const log = openLog(settings.logFile, settings.logLevel, podLog);
  for (const note of settings.notes) log.warn(note);

  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => {
      stop.abort();
      // An EC2 call in a long back-off is not waited for: every step is safe to lose.
      setTimeout(() => process.exit(0), stopWithinMs).unref();
    });
  }

  installPlugin(settings.hostCniBinPath, pluginProgram);
  const imds = createImdsClient({ endpoint: imdsEndpoint(env) });
  // On a booting instance the metadata service may be seconds late.
  const clock = createClock(settings.timeScale);
  const identity = await retry(clock, { tries: 8, firstMs: 250, capMs: 5_000 }, () => imds.identityDocument());
  const ec2 = createEc2Client({
    region: identity.region,
    credentials: defaultCredentials(env, imds),
    env,
    timeoutMs: settings.httpTimeoutMs,
    userAgent: `amazon-vpc-cni-k8s/${env["VPC_CNI_VERSION"] ?? ""}`,
  });
  const started = performance.now();
  const ipamd = await startIpamd({
    settings,
    ec2,
    imds,
    clock,
    log,
    node: await connectNode(settings, log, stop.signal),
    signal: stop.signal,
  });
  ipamd.metrics.startupDuration.observe(
    { success: "true", with_api_server: "true", failure_reason: "" },
    (performance.now() - started) / 1000,
  );
  if (!settings.disableIntrospection) {
    serveIntrospection({ ...ipamd, settings, now: clock.now }).on("error", (error) =>
      log.warn("introspection is off", { err: error }),
    );
  }
  if (!settings.disableMetrics) {
    serveMetrics(ipamd.metrics, settings.metricsPort).on("error", (error) =>
      log.warn("metrics are off", { err: error }),
    );
  }
  writeConflist(settings);
  log.info("node is ready for pods", { conflist: conflistName, tookMs: Math.round(performance.now() - started) });
  await ipamd.done;
  process.exit(0);
}

/** Without a service account (a bare run on a node) ipamd works on what the instance says alone. */
async function connectNode(settings: Settings, log: Log, signal: AbortSignal): Promise<NodeFacts> {
  try {
    const config = await inClusterConfig(process.env);
    const server = settings.clusterEndpoint || config.server;
    const client = new KubeClient({ ...config, server }, { userAgent: "amazon-vpc-cni-k8s" });
    return watchNode({ client, settings, log, signal });
  } catch (error) {
    log.warn("no Kubernetes API: capacity, taints and events are left out", { err: error });
    return nodeWithoutApi;
  }
}

/** A conflist baked into the image wins, as upstream's Helm value `cniConfig` does. */
function writeConflist(settings: Settings): void {
  mkdirSync(settings.hostCniConfDirPath, { recursive: true });
  const target = path.join(settings.hostCniConfDirPath, conflistName);
  const own = `/app/${conflistName}`;
  if (existsSync(own)) copyFileSync(own, target);
  else replaceFile(target, formatConflist(settings), 0o644);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${describeFailure(error)}\n`);
  process.exit(1);
}
