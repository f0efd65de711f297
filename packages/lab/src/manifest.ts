/** Manifests of the add-ons: placeholders filled, documents parsed, applied server-side in the order they stand. */
import type { KubeClient } from "@underlay/kube/client";
import { UnderlayError } from "@underlay/log/underlay-error";
import { parseAllDocuments } from "yaml";

export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  [field: string]: unknown;
};

const clusterScoped = new Set([
  "Namespace",
  "ClusterRole",
  "ClusterRoleBinding",
  "CustomResourceDefinition",
  "PriorityClass",
]);

/** The objects of a manifest file, with every `${NAME}` replaced. A placeholder without a value is an error, never an empty text. */
export function readManifest(text: string, values: Readonly<Record<string, string>>): Manifest[] {
  const filled = text.replace(/\$\{([A-Z0-9_]+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined)
      throw new UnderlayError("BadManifest", `Cannot fill a manifest: nothing is known for \${${name}}`);
    return value;
  });
  return parseAllDocuments(filled)
    .map((document) => document.toJS() as Manifest | null)
    .filter((object): object is Manifest => object !== null);
}

/** The API path of an object: the plural of every kind used here is its lower-case kind and an "s". */
export function pathOfManifest(object: Manifest): string {
  const base = object.apiVersion.includes("/") ? `/apis/${object.apiVersion}` : `/api/${object.apiVersion}`;
  const plural = `${object.kind.toLowerCase()}s`;
  const scope = clusterScoped.has(object.kind) ? "" : `/namespaces/${object.metadata.namespace ?? "default"}`;
  return `${base}${scope}/${plural}/${object.metadata.name}`;
}

/** Server-side apply with a forced field manager, as EKS applies its add-ons. */
export async function applyManifest(client: KubeClient, object: Manifest, fieldManager: string): Promise<void> {
  await client.request("PATCH", pathOfManifest(object), {
    query: { fieldManager, force: "true" },
    body: object,
    contentType: "application/apply-patch+yaml",
  });
}
