/** The authorizer chain: the first that allows wins; the last reason given is told. */
import type { Decision, RequestAttributes, UserInfo } from "../seams.ts";
import type { AccessEntries, AccessPolicy } from "./access-entries.ts";
import { authorizeNode, nodeNameOf, type NodeGraph } from "./node-rules.ts";
import { ruleAllows, type PolicyRule, type Rbac } from "./rbac.ts";

type Parts = { readonly rbac: Rbac; readonly nodes: NodeGraph; readonly entries: AccessEntries };

/** What anyone may read, with or without a name: health, version, and the public keys of tokens. */
const publicPaths =
  /^\/(?:healthz|livez|readyz|version)(?:\/|$)|^\/\.well-known\/openid-configuration$|^\/openid\/v1\/jwks$/;
/** What anyone with a name may read: discovery and schemas (upstream's system:discovery). */
const discoveryPaths = /^\/(?:api|apis|openapi)(?:\/|$)/;
const everything: readonly PolicyRule[] = [
  { verbs: ["*"], apiGroups: ["*"], resources: ["*"] },
  { verbs: ["*"], nonResourceURLs: ["*"] },
];

export function createAuthorizer(parts: Parts): (user: UserInfo, asked: RequestAttributes) => Promise<Decision> {
  return (user, asked) => Promise.resolve(decide(user, asked, parts));
}

function decide(user: UserInfo, asked: RequestAttributes, parts: Parts): Decision {
  if (user.groups.includes("system:masters")) return { allowed: true };
  if (asked.resource === "" && asked.verb === "get") {
    if (publicPaths.test(asked.path)) return { allowed: true };
    if (discoveryPaths.test(asked.path) && user.groups.includes("system:authenticated")) return { allowed: true };
  }
  let reason = "";
  const node = nodeNameOf(user);
  if (node !== undefined) {
    const decision = authorizeNode(node, asked, parts.nodes);
    if (decision.allowed) return decision;
    reason = decision.reason ?? "";
  }
  if (allowedByPolicy(user, asked, parts)) return { allowed: true, reason: "EKS Access Policy" };
  for (const { rules, role } of parts.rbac.bindingsOf(user, asked.namespace)) {
    if (rules.some((rule) => ruleAllows(rule, asked))) return { allowed: true, reason: `RBAC: allowed by ${role}` };
  }
  return { allowed: false, reason };
}

function allowedByPolicy(user: UserInfo, asked: RequestAttributes, { entries, rbac }: Parts): boolean {
  return entries.policiesOf(user.username).some((policy) => {
    if (policy.namespaces.length && !policy.namespaces.some((pattern) => matchesNamespace(pattern, asked.namespace)))
      return false;
    return rulesOfPolicy(policy, rbac).some((rule) => ruleAllows(rule, asked));
  });
}

function matchesNamespace(pattern: string, namespace: string): boolean {
  if (!pattern.includes("*")) return pattern === namespace;
  const parts = pattern.split("*").map((part) => part.replace(/[^\w-]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(namespace);
}

/** EKS' access policies are its user-facing roles under other names. */
export function rulesOfPolicy(policy: AccessPolicy, rbac: Pick<Rbac, "clusterRole">): readonly PolicyRule[] {
  switch (policy.name) {
    case "AmazonEKSClusterAdminPolicy":
      return everything;
    case "AmazonEKSAdminPolicy":
      return rbac.clusterRole("admin");
    case "AmazonEKSEditPolicy":
      return rbac.clusterRole("edit");
    case "AmazonEKSViewPolicy":
      return rbac.clusterRole("view");
    case "AmazonEKSAdminViewPolicy":
      return [{ verbs: ["get", "list", "watch"], apiGroups: ["*"], resources: ["*"] }];
    default:
      return [];
  }
}
