import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { callUnixFd } from "@underlay/kernel/unix-fd";
import type { Log } from "@underlay/log/log";
import { policyAgentOf, serveConfig } from "./policy-agent.ts";
import { parseSettings, type Settings } from "./settings.ts";

const warnings: string[] = [];
const log: Log = {
  debug: () => {},
  info: () => {},
  warn: (event) => void warnings.push(event),
  error: () => {},
  child: () => log,
};
const pod = { namespace: "shop", name: "web-0", address: "10.0.1.10", hostVeth: "eni0123456789a" };

function settingsIn(t: TestContext, mode: string): Settings {
  const folder = mkdtempSync(path.join(tmpdir(), "ul-np-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const sockets = {
    policyAgentSocket: path.join(folder, "npa.sock"),
    configSocket: path.join(folder, "ipamd.sock"),
  };
  return { ...parseSettings({ ENABLE_IPv4: "true", NETWORK_POLICY_ENFORCING_MODE: mode }), ...sockets };
}

/** An agent that notes what it hears and says what it is told to. */
function listen(t: TestContext, socket: string, answer: object): { heard: Record<string, unknown>[]; server: Server } {
  const heard: Record<string, unknown>[] = [];
  const server = createServer({ allowHalfOpen: true }, (client) => {
    client.on("data", (line) => heard.push(JSON.parse(String(line))));
    client.on("end", () => client.end(`${JSON.stringify(answer)}\n`));
  });
  server.listen(socket);
  t.after(() => server.close());
  return { heard, server };
}

test("without a mode nobody is asked", (t) => {
  assert.equal(policyAgentOf({ ...settingsIn(t, ""), networkPolicyMode: undefined }, log), undefined);
});

test("ADD tells the agent of the pod, and waits for an agent that starts later", async (t) => {
  const settings = settingsIn(t, "strict");
  const enforced = policyAgentOf(settings, log)?.enforce(pod);
  const { heard } = listen(t, settings.policyAgentSocket, { Success: true });
  await enforced;
  assert.deepEqual(heard, [
    {
      method: "EnforceNpToPod",
      K8S_POD_NAME: "web-0",
      K8S_POD_NAMESPACE: "shop",
      NETWORK_POLICY_MODE: "strict",
      InterfaceCount: 1,
      addresses: ["10.0.1.10"],
      hostVeth: "eni0123456789a",
    },
  ]);
});

test("an agent that refuses fails ADD with its reason, and is only noted on DEL", async (t) => {
  const settings = settingsIn(t, "standard");
  listen(t, settings.policyAgentSocket, { Success: false, error: "no picture yet" });
  const agent = policyAgentOf(settings, log);
  await assert.rejects(agent?.enforce(pod) ?? Promise.resolve(), { code: 11, details: "no picture yet" });
  await agent?.release(pod);
  assert.deepEqual(warnings, ["the policy agent could not release a pod"]);
});

test("no agent within two seconds fails ADD and DEL", async (t) => {
  const agent = policyAgentOf(settingsIn(t, "standard"), log);
  const failed = await Promise.allSettled([agent?.enforce(pod), agent?.release(pod)]);
  assert.deepEqual(
    failed.map((one) => one.status === "rejected" && (one.reason as Error).message),
    ["add", "del"].map((command) => `${command} cmd: failed to reach the network policy agent`),
  );
});

test("ipamd tells the agent its mode", async (t) => {
  const settings = settingsIn(t, "strict");
  const server = await serveConfig(settings, log);
  const answer = await callUnixFd({ path: settings.configSocket, request: '{"method":"GetNetworkPolicyConfigs"}\n' });
  assert.deepEqual(JSON.parse(String(answer)), { NetworkPolicyMode: "strict", MultiNICEnabled: false });
  await server.close();
});
