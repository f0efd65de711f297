/** Namespace controller: empties a namespace that is being deleted, says what is left, then lets it go. */
import { isNotFound, type KubeClient } from "@underlay/kube/client";
import type { Namespace } from "@underlay/kube/objects";
import { namespaces, pathOf, type Resource } from "@underlay/kube/resources";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";
import { discover, type Discovered } from "./discovery.ts";
import { terminatingStatus, type Findings, type Remaining } from "./namespace-plan.ts";
import { sameStatus } from "./status.ts";

const finalizer = "kubernetes";
const lookAgainMs = 500;

export async function runNamespaceController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const all = informers.of(namespaces);
  const queue = new WorkQueue();
  const onChange = (namespace: Namespace) => {
    if (namespace.metadata.deletionTimestamp !== undefined) queue.add(namespace.metadata.name ?? "");
  };
  all.on({ add: onChange, update: (_old, namespace) => onChange(namespace) });

  const reconcile = async (name: string): Promise<Requeue> => {
    const namespace = await client.find(namespaces, name);
    if (namespace?.metadata.deletionTimestamp === undefined) return;
    if (!(namespace.spec?.finalizers ?? []).includes(finalizer)) return;
    const findings = await empty(client, name);
    const clean =
      findings.discoveryError === undefined && findings.deletionErrors.length === 0 && findings.remaining.length === 0;
    const status = terminatingStatus(namespace, findings, new Date());
    let current = namespace;
    if (!sameStatus(status, namespace.status))
      current = await client.updateStatus(namespaces, { ...namespace, status });
    if (!clean) return { requeueAfterMs: lookAgainMs };
    const finalizers = (current.spec?.finalizers ?? []).filter((one) => one !== finalizer);
    const body = { ...current, apiVersion: "v1", kind: "Namespace", spec: { ...current.spec, finalizers } };
    await client.request("PUT", pathOf(namespaces, undefined, name, "finalize"), { body }).catch((err: unknown) => {
      if (!isNotFound(err)) throw err;
    });
  };
  await runQueue(context, "namespace", queue, reconcile, 4);
}

/** Deletes everything deletable in the namespace and reports what is still there. */
async function empty(client: KubeClient, namespace: string): Promise<Findings> {
  const findings: Findings = { discoveryError: undefined, deletionErrors: [], remaining: [] };
  let resources: Discovered[];
  try {
    resources = (await discover(client)).filter(
      (one) => one.namespaced && one.verbs.includes("delete") && one.verbs.includes("list"),
    );
  } catch (err) {
    return { ...findings, discoveryError: (err as Error).message };
  }
  const results = await Promise.all(
    resources.map(async (of) => {
      try {
        return await emptyOf(client, of, namespace);
      } catch (err) {
        if (!isNotFound(err)) findings.deletionErrors.push(`${of.plural}.${of.group}: ${(err as Error).message}`);
        return undefined;
      }
    }),
  );
  findings.remaining = results.filter((one) => one !== undefined);
  return findings;
}

async function emptyOf(client: KubeClient, of: Discovered, namespace: string): Promise<Remaining | undefined> {
  const before = await client.listAll(of as Resource, { namespace });
  if (before.length === 0) return undefined;
  const waiting = before.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  if (waiting.length > 0) {
    const background = { namespace, propagationPolicy: "Background" as const };
    if (of.verbs.includes("deletecollection")) await client.deleteCollection(of as Resource, background);
    else for (const { metadata } of waiting) await client.delete(of as Resource, metadata.name ?? "", background);
  }
  const left = waiting.length > 0 ? await client.listAll(of as Resource, { namespace }) : before;
  if (left.length === 0) return undefined;
  const finalizers: Record<string, number> = {};
  for (const { metadata } of left)
    for (const name of metadata.finalizers ?? []) finalizers[name] = (finalizers[name] ?? 0) + 1;
  return { resource: of.plural, group: of.group, count: left.length, finalizers };
}
