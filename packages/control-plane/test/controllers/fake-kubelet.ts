/** For tests: nodes that run every pod at once. A pod's annotation `test/exit` makes it end with that code, `test/unready` keeps it unready. */
import { isAlreadyExists, isConnectionError, isNotFound, type KubeClient } from "@underlay/kube/client";
import { wireMicroTime, wireTime } from "@underlay/kube/conditions";
import { Informer } from "@underlay/kube/informer";
import { keyOf, type Node, type Pod } from "@underlay/kube/objects";
import { leases, nodes, pods } from "@underlay/kube/resources";

export type FakeNode = { name: string; zone: string; pods?: number; cpu?: string };

export class FakeKubelets {
  readonly #client: KubeClient;
  readonly #stop = new AbortController();
  readonly #silent = new Set<string>();
  #address = 0;

  constructor(client: KubeClient) {
    this.#client = client;
  }

  async start(all: readonly FakeNode[]): Promise<void> {
    for (const { name, zone, pods: most = 110, cpu = "2" } of all) {
      const labels = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": zone,
        "kubernetes.io/os": "linux",
      };
      const amounts = { cpu, memory: "8Gi", pods: String(most) };
      const node: Node = {
        metadata: { name, labels },
        spec: {},
        status: { capacity: amounts, allocatable: amounts, conditions: [ready("KubeletReady")] },
      };
      await this.#client.create(nodes, node);
      await this.#client.patch(
        nodes,
        name,
        { type: "strategic", body: { status: node.status } },
        { subresource: "status" },
      );
      await this.#renew(name);
    }
    const timer = setInterval(
      () => void Promise.all(all.map(({ name }) => this.#renew(name))).catch(() => undefined),
      2_000,
    );
    this.#stop.signal.addEventListener("abort", () => clearInterval(timer), { once: true });
    const informer = new Informer(this.#client, pods);
    // A kubelet does not give up on a pod because the API server was away for a moment.
    const look = (pod: Pod): void => {
      this.#look(pod).catch((err: unknown) => {
        if (this.#stop.signal.aborted || isNotFound(err)) return;
        if (!isConnectionError(err)) console.error(err);
        setTimeout(() => {
          const current = informer.get(keyOf(pod));
          if (current && !this.#stop.signal.aborted) look(current);
        }, 200);
      });
    };
    informer.on({ add: look, update: (_old, pod) => look(pod) });
    await informer.start(this.#stop.signal).synced();
  }

  /** The node stops renewing its lease and reporting. */
  silence(node: string): void {
    this.#silent.add(node);
  }

  stop(): void {
    this.#stop.abort();
  }

  async #renew(name: string): Promise<void> {
    if (this.#silent.has(name)) return;
    const spec = { holderIdentity: name, leaseDurationSeconds: 40, renewTime: wireMicroTime(new Date()) };
    const metadata = { name, namespace: "kube-node-lease" };
    await this.#client.create(leases, { metadata, spec }).catch(async (err: unknown) => {
      if (!isAlreadyExists(err)) throw err;
      await this.#client.patch(leases, name, { type: "merge", body: { spec } }, { namespace: "kube-node-lease" });
    });
  }

  async #look(pod: Pod): Promise<void> {
    const { name = "", namespace, uid, annotations } = pod.metadata;
    if (!pod.spec?.nodeName || this.#silent.has(pod.spec.nodeName)) return;
    if (pod.metadata.deletionTimestamp)
      return this.#client.delete(pods, name, { namespace, gracePeriodSeconds: 0, preconditions: { uid } });
    if (pod.status?.podIP) return;
    this.#address += 1;
    const ip = `10.9.${Math.floor(this.#address / 250)}.${1 + (this.#address % 250)}`;
    const exit = annotations?.["test/exit"];
    const phase = exit === undefined ? "Running" : exit === "0" ? "Succeeded" : "Failed";
    const isReady = phase === "Running" && annotations?.["test/unready"] === undefined;
    const conditions = [{ ...ready(""), status: isReady ? "True" : "False" }];
    await this.#client.patch(
      pods,
      name,
      { type: "strategic", body: { status: { phase, podIP: ip, podIPs: [{ ip }], conditions } } },
      { namespace, subresource: "status" },
    );
  }
}

function ready(reason: string) {
  const now = wireTime(new Date());
  return {
    type: "Ready",
    status: "True",
    lastTransitionTime: now,
    ...(reason ? { reason, lastHeartbeatTime: now } : {}),
  };
}
