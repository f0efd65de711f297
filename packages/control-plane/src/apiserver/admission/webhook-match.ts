/** Which webhooks a request concerns: rules, scope, selectors, match conditions. */
import { matchesLabelSelector } from "@underlay/kube/selectors";
import type { AdmissionRequest, ObjectReader } from "../seams.ts";
import type { Stored } from "../stored.ts";

// Configurations are stored validated; a webhook is read as it stands there.
export type Webhook = Stored;

/** Does a webhook's rule list name this request. Pure. */
export function rulesMatch(webhook: Webhook, request: AdmissionRequest): boolean {
  const { info, operation, subresource } = request;
  const resource = subresource === "" ? info.plural : `${info.plural}/${subresource}`;
  return (webhook.rules ?? []).some((rule: Stored) => {
    if (!has(rule.operations, operation) || !has(rule.apiGroups, info.group) || !has(rule.apiVersions, info.version))
      return false;
    if (rule.scope === "Namespaced" && (!info.namespaced || info.storage === "/namespaces")) return false;
    if (rule.scope === "Cluster" && info.namespaced) return false;
    return (rule.resources ?? []).some(
      (pattern: string) =>
        pattern === resource ||
        pattern === "*/*" ||
        (pattern === "*" && subresource === "") ||
        pattern === `${info.plural}/*` ||
        (subresource !== "" && pattern === `*/${subresource}`),
    );
  });
}

function has(list: readonly string[] | undefined, value: string): boolean {
  return (list ?? []).includes("*") || (list ?? []).includes(value);
}

/** namespaceSelector by the namespace's labels (a Namespace's own), objectSelector by the new or the old object's. */
export function selectorsMatch(
  webhook: Webhook,
  request: AdmissionRequest,
  objects: Pick<ObjectReader, "get">,
): boolean {
  const { info, object, oldObject } = request;
  if (info.storage === "/namespaces") {
    const labels = object?.metadata.labels ?? oldObject?.metadata.labels;
    if (!matchesLabelSelector(webhook.namespaceSelector ?? {}, labels)) return false;
  } else if (info.namespaced) {
    const namespace = objects.get("/namespaces", "", request.namespace);
    if (!matchesLabelSelector(webhook.namespaceSelector ?? {}, namespace?.metadata.labels)) return false;
  }
  const selector = webhook.objectSelector ?? {};
  return (
    [object, oldObject].some(
      (candidate) => candidate !== undefined && matchesLabelSelector(selector, candidate.metadata.labels),
    ) ||
    (object === undefined && oldObject === undefined && matchesLabelSelector(selector, undefined))
  );
}
