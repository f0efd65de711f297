/** Certificate requests: approves nodes' own requests, signs what is approved, with the cluster's CA. */
import type { CertificateSigningRequest } from "@underlay/kube/objects";
import { findCondition, wireTime } from "@underlay/kube/conditions";
import { certificateSigningRequests } from "@underlay/kube/resources";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";

type Decision =
  | { do: "approve"; reason: string; message: string }
  | { do: "sign"; usage: "server" | "client" }
  | { do: "delete" }
  | { do: "wait"; ms: number };

const signers: Record<string, "server" | "client"> = {
  "kubernetes.io/kubelet-serving": "server",
  "kubernetes.io/kube-apiserver-client-kubelet": "client",
  "kubernetes.io/kube-apiserver-client": "client",
};
const hour = 3_600_000;

/** What to do with a request. The subject is checked by the API server's admission against the asking node. Pure. */
export function decideRequest(request: CertificateSigningRequest, now: Date): Decision {
  const { spec, status } = request;
  const usage = signers[spec.signerName];
  const conditions = status?.conditions ?? [];
  const denied = findCondition(conditions, "Denied") ?? findCondition(conditions, "Failed");
  const approved = findCondition(conditions, "Approved");
  const age = now.getTime() - Date.parse(request.metadata.creationTimestamp ?? "");
  // Upstream keeps finished requests an hour and pending ones a day.
  const keepFor = status?.certificate || denied ? hour : 24 * hour;
  if (age > keepFor) return { do: "delete" };
  if (denied || status?.certificate || !usage) return { do: "wait", ms: keepFor - age };
  if (approved) return { do: "sign", usage };
  if (isNodesOwn(request)) {
    const what = spec.signerName === "kubernetes.io/kubelet-serving" ? "kubelet serving" : "kubelet client";
    return {
      do: "approve",
      reason: "AutoApproved",
      message: `Auto approving ${what} certificate after SubjectAccessReview.`,
    };
  }
  return { do: "wait", ms: keepFor - age };
}

/** A node asking for itself: EKS approves these for nodes of the cluster; bootstrap tokens ask for client certificates. */
function isNodesOwn({ spec }: CertificateSigningRequest): boolean {
  const groups = spec.groups ?? [];
  const node = spec.username?.startsWith("system:node:") === true && groups.includes("system:nodes");
  if (spec.signerName === "kubernetes.io/kubelet-serving") return node;
  if (spec.signerName === "kubernetes.io/kube-apiserver-client-kubelet")
    return node || groups.includes("system:bootstrappers");
  return false;
}

export async function runCertificateController(context: ControllerContext): Promise<void> {
  const { client, informers, authority } = context;
  const requests = informers.of(certificateSigningRequests);
  const queue = new WorkQueue();
  requests.on({ add: (r) => queue.add(r.metadata.name ?? ""), update: (_old, r) => queue.add(r.metadata.name ?? "") });

  const reconcile = async (name: string): Promise<Requeue> => {
    const request = requests.get(name);
    if (!request) return;
    const now = new Date();
    const decision = decideRequest(request, now);
    switch (decision.do) {
      case "wait":
        return { requeueAfterMs: decision.ms + 1000 };
      case "delete":
        return client.delete(certificateSigningRequests, name);
      case "approve": {
        const time = wireTime(now);
        const condition = {
          type: "Approved",
          status: "True",
          reason: decision.reason,
          message: decision.message,
          lastUpdateTime: time,
          lastTransitionTime: time,
        };
        const status = { ...request.status, conditions: [...(request.status?.conditions ?? []), condition] };
        await client.update(certificateSigningRequests, { ...request, status }, { subresource: "approval" });
        return;
      }
      case "sign": {
        // The certificate library is large, and most of a cluster's life nobody asks.
        const { signRequest } = await import("@underlay/pki/authority");
        const pem = Buffer.from(request.spec.request, "base64").toString("utf8");
        const certificate = Buffer.from(await signRequest(authority, pem, decision.usage)).toString("base64");
        await client.updateStatus(certificateSigningRequests, {
          ...request,
          status: { ...request.status, certificate },
        });
        return;
      }
    }
  };
  await runQueue(context, "certificatesigningrequest", queue, reconcile, 2);
}
