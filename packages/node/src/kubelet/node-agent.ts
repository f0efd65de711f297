/** Keeps the node known to the cluster: registers it, renews its lease, reports its status. */
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { isAlreadyExists, isConflict, isNotFound } from "@underlay/kube/client";
import type { Node } from "@underlay/kube/objects";
import { leases, nodes } from "@underlay/kube/resources";
import type { KubeletContext } from "./kubelet-context.ts";
import { nodeConditions, nodeLabels, nodeObject, nodeStatus, notReadyTaint, type NodeFacts } from "./node-object.ts";

const leaseSeconds = 40;
const renewMs = 10_000;
const statusMs = 300_000;
const lookMs = 500;

export class NodeAgent {
  readonly #context: KubeletContext;
  readonly #facts: NodeFacts;
  #node: Node | undefined;
  #reportedAt = 0;
  #ready: boolean | undefined;

  constructor(context: KubeletContext) {
    this.#context = context;
    this.#facts = readFacts(context.runtime.version);
  }

  /** The Node object as last seen, e.g. for events. */
  get node(): Node | undefined {
    return this.#node;
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#retry(signal, () => this.#register());
    await Promise.all([
      this.#every(renewMs, signal, () => this.#renewLease()),
      this.#every(lookMs, signal, () => this.#report()),
    ]);
  }

  async #register(): Promise<void> {
    const { client, settings, log } = this.#context;
    const wanted = nodeObject(settings, this.#facts);
    try {
      this.#node = await client.create(nodes, wanted);
      log.info("registered node", { node: settings.nodeName });
    } catch (err) {
      if (!isAlreadyExists(err)) throw err;
      this.#node = await client.patch(nodes, settings.nodeName, {
        type: "strategic",
        body: { metadata: { labels: nodeLabels(settings, this.#facts) } },
      });
      log.info("node is registered already", { node: settings.nodeName });
      this.#ready = this.#node.status?.conditions?.find((c) => c.type === "Ready")?.status === "True";
    }
    await this.#report();
    await this.#renewLease();
    this.#event("Normal", "Starting", "Starting kubelet.");
  }

  /** Patches the status when something changed, and every five minutes anyway. */
  async #report(): Promise<void> {
    const { client, settings, cni } = this.#context;
    const ready = cni.network() !== undefined;
    if (ready === this.#ready && Date.now() - this.#reportedAt < statusMs) return;
    const now = `${new Date().toISOString().slice(0, 19)}Z`;
    const conditions = nodeConditions(ready, this.#node?.status?.conditions ?? [], now);
    try {
      this.#node = await client.patch(
        nodes,
        settings.nodeName,
        { type: "strategic", body: { status: nodeStatus(settings, this.#facts, conditions) } },
        { subresource: "status" },
      );
    } catch (err) {
      if (isNotFound(err)) return this.#register(); // somebody deleted the node: it comes back, as on EKS
      throw err;
    }
    if (ready && this.#ready !== true) {
      await this.#removeNotReadyTaint();
      this.#event("Normal", "NodeReady", `Node ${settings.nodeName} status is now: NodeReady`);
    } else if (!ready && this.#ready === true)
      this.#event("Normal", "NodeNotReady", `Node ${settings.nodeName} status is now: NodeNotReady`);
    this.#ready = ready;
    this.#reportedAt = Date.now();
  }

  /** The taint of registration; the node lifecycle controller does the same, whoever is first. */
  async #removeNotReadyTaint(): Promise<void> {
    const { client, settings } = this.#context;
    const node = await client.get(nodes, settings.nodeName);
    const taints = node.spec?.taints ?? [];
    const kept = taints.filter((t) => !(t.key === notReadyTaint.key && t.effect === notReadyTaint.effect));
    if (kept.length === taints.length) return;
    const body = { metadata: { resourceVersion: node.metadata.resourceVersion }, spec: { taints: kept } };
    await client.patch(nodes, settings.nodeName, { type: "merge", body }).catch((err: unknown) => {
      if (!isConflict(err)) throw err;
    });
  }

  async #renewLease(): Promise<void> {
    const { client, settings } = this.#context;
    const namespace = "kube-node-lease";
    const renewTime = new Date().toISOString().replace("Z", "000Z");
    try {
      await client.patch(
        leases,
        settings.nodeName,
        { type: "merge", body: { spec: { renewTime, holderIdentity: settings.nodeName } } },
        { namespace, retryForMs: 0 },
      );
    } catch (err) {
      if (!isNotFound(err)) throw err;
      const owner = this.#node
        ? {
            ownerReferences: [
              { apiVersion: "v1", kind: "Node", name: settings.nodeName, uid: this.#node.metadata.uid ?? "" },
            ],
          }
        : {};
      await client.create(leases, {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name: settings.nodeName, namespace, ...owner },
        spec: { holderIdentity: settings.nodeName, leaseDurationSeconds: leaseSeconds, renewTime },
      });
    }
  }

  #event(type: "Normal" | "Warning", reason: string, message: string): void {
    const node = this.#node;
    if (node) this.#context.events.event({ ...node, apiVersion: "v1", kind: "Node" }, type, reason, message);
  }

  async #retry(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    for (let delayMs = 200; !signal.aborted; delayMs = Math.min(delayMs * 2, 5000)) {
      try {
        return await work();
      } catch (err) {
        this.#context.log.warn("cannot register node, trying again", { err });
        await sleep(delayMs, undefined, { signal }).catch(() => {});
      }
    }
  }

  async #every(ms: number, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    let failing = false;
    while (!signal.aborted) {
      try {
        await work();
        failing = false;
      } catch (err) {
        if (!failing) this.#context.log.warn("cannot reach the API server", { err });
        failing = true;
      }
      await sleep(ms, undefined, { signal }).catch(() => {});
    }
  }
}

function readFacts(runtime: string): NodeFacts {
  const osRelease = readText("/etc/os-release");
  return {
    kernelVersion: release(),
    osImage: /^PRETTY_NAME="?([^"\n]+)/m.exec(osRelease)?.[1] ?? "Linux",
    machineId: readText("/etc/machine-id").trim(),
    bootId: readText("/proc/sys/kernel/random/boot_id").trim(),
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    runtime,
  };
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
