/** Answers of the virtual kinds that ask about identity and access: *AccessReview, SelfSubjectRulesReview, TokenReview, SelfSubjectReview. */
import { badRequest, invalid, resourceNotServed } from "../api-error.ts";
import { kubernetesTime, type ApiObject } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";
import type { Decision, RequestAttributes, UserInfo } from "../seams.ts";
import type { Rbac } from "./rbac.ts";
import type { Stored } from "../stored.ts";

type Parts = {
  readonly authorize: (user: UserInfo, asked: RequestAttributes) => Promise<Decision>;
  readonly authenticateToken: (token: string, audiences?: readonly string[]) => Promise<UserInfo | undefined>;
  readonly rbac: Rbac;
  readonly audiences: readonly string[];
};

export function createReviews(parts: Parts) {
  return async (user: UserInfo, info: ResourceInfo, namespace: string, object: ApiObject): Promise<ApiObject> => {
    const spec = object["spec"] ?? {};
    switch (info.kind) {
      case "SelfSubjectAccessReview":
        return answer(object, await accessStatus(user, spec, parts));
      case "SubjectAccessReview":
      case "LocalSubjectAccessReview":
        checkSubject(info, spec, namespace);
        return answer(object, await accessStatus(subjectOf(spec), spec, parts));
      case "SelfSubjectRulesReview":
        if (!spec.namespace) throw badRequest("no namespace on request");
        return answer(object, rulesStatus(user, spec.namespace, parts.rbac));
      case "TokenReview":
        return answer(object, await tokenStatus(spec, parts));
      case "SelfSubjectReview":
        return {
          kind: info.kind,
          apiVersion: object.apiVersion,
          metadata: { ...object.metadata, creationTimestamp: kubernetesTime(Date.now()) },
          status: { userInfo: userInfo(user) },
        };
      default:
        throw resourceNotServed();
    }
  };
}

function answer(object: ApiObject, status: object): ApiObject {
  return { ...object, metadata: object.metadata ?? {}, status };
}

function checkSubject(info: ResourceInfo, spec: Stored, namespace: string): void {
  if (!spec.resourceAttributes === !spec.nonResourceAttributes) {
    throw invalid(info, "", [
      {
        type: "Invalid",
        field: "spec.resourceAttributes",
        value: spec.resourceAttributes ?? null,
        detail: "exactly one of nonResourceAttributes or resourceAttributes must be specified",
      },
    ]);
  }
  if (!spec.user && !spec.groups?.length) {
    throw invalid(info, "", [
      {
        type: "Invalid",
        field: "spec.user",
        value: spec.user ?? "",
        detail: "at least one of user or group must be specified",
      },
    ]);
  }
  if (info.kind === "LocalSubjectAccessReview" && spec.resourceAttributes?.namespace !== namespace) {
    throw invalid(info, "", [
      {
        type: "Invalid",
        field: "spec.resourceAttributes.namespace",
        value: spec.resourceAttributes?.namespace ?? "",
        detail: "must match metadata.namespace",
      },
    ]);
  }
}

const subjectOf = (spec: Stored): UserInfo => ({
  username: spec.user ?? "",
  groups: spec.groups ?? [],
  ...(spec.uid ? { uid: spec.uid } : {}),
  ...(spec.extra ? { extra: spec.extra } : {}),
});

async function accessStatus(user: UserInfo, spec: Stored, { authorize }: Parts): Promise<object> {
  const r = spec.resourceAttributes;
  const decision = await authorize(user, {
    verb: (r ?? spec.nonResourceAttributes)?.verb ?? "",
    resource: r?.resource ?? "",
    group: r?.group ?? "",
    version: r?.version ?? "",
    subresource: r?.subresource ?? "",
    namespace: r?.namespace ?? "",
    name: r?.name ?? "",
    path: spec.nonResourceAttributes?.path ?? "",
  });
  return { allowed: decision.allowed, ...(decision.reason ? { reason: decision.reason } : {}) };
}

function rulesStatus(user: UserInfo, namespace: string, rbac: Rbac): object {
  const resourceRules: object[] = [];
  const nonResourceRules: object[] = [];
  const add = (rule: {
    verbs: readonly string[];
    apiGroups?: readonly string[];
    resources?: readonly string[];
    resourceNames?: readonly string[];
    nonResourceURLs?: readonly string[];
  }) => {
    if (rule.resources?.length) {
      const { verbs, apiGroups = [], resources, resourceNames } = rule;
      resourceRules.push({ verbs, apiGroups, resources, ...(resourceNames?.length ? { resourceNames } : {}) });
    }
    if (rule.nonResourceURLs?.length)
      nonResourceRules.push({ verbs: rule.verbs, nonResourceURLs: rule.nonResourceURLs });
  };
  if (user.groups.includes("system:masters")) {
    add({ verbs: ["*"], apiGroups: ["*"], resources: ["*"] });
    add({ verbs: ["*"], nonResourceURLs: ["*"] });
  }
  for (const { rules } of rbac.bindingsOf(user, namespace)) for (const rule of rules) add(rule);
  return { resourceRules, nonResourceRules, incomplete: false };
}

async function tokenStatus(spec: Stored, parts: Parts): Promise<object> {
  const asked: readonly string[] = spec.audiences?.length ? spec.audiences : parts.audiences;
  const user = spec.token ? await parts.authenticateToken(spec.token, asked) : undefined;
  if (!user) return { authenticated: false, user: {}, error: "[invalid bearer token]" };
  return { authenticated: true, user: userInfo(user), audiences: audiencesOf(spec.token, asked) };
}

/** Those audiences asked for that the token carries; EKS tokens carry none and are for this server. */
function audiencesOf(token: string, asked: readonly string[]): readonly string[] {
  const payload = token.split(".")[1];
  if (token.startsWith("k8s-aws-v1.") || payload === undefined) return asked;
  const { aud } = JSON.parse(Buffer.from(payload, "base64url").toString()) as { aud?: string | string[] };
  return [aud ?? []].flat().filter((audience) => asked.includes(audience));
}

const userInfo = (user: UserInfo): object => ({
  username: user.username,
  ...(user.uid ? { uid: user.uid } : {}),
  groups: user.groups,
  ...(user.extra ? { extra: user.extra } : {}),
});
