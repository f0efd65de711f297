/**
 * Dynamic admission: the webhooks of Mutating- and ValidatingWebhookConfigurations.
 * Mutating ones run one after another (configurations by name, webhooks as listed), with one more round for those that ask
 * (`reinvocationPolicy: IfNeeded`) when a later one changed the object. Validating ones run in parallel.
 */
import { randomUUID } from "node:crypto";
import { ApiError, internalError } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import { applyJsonPatch } from "../patch/json-patch.ts";
import type { AdmissionRequest, ServerContext } from "../seams.ts";
import { conditionsMatch } from "./match-conditions.ts";
import { callWebhook, type WebhookAnswer } from "./webhook-call.ts";
import { rulesMatch, selectorsMatch, type Webhook } from "./webhook-match.ts";

const group = "admissionregistration.k8s.io";
const storages = {
  mutating: `${group}/mutatingwebhookconfigurations`,
  validating: `${group}/validatingwebhookconfigurations`,
} as const;
type Phase = keyof typeof storages;

export function createWebhooks({ objects, log }: Pick<ServerContext, "objects" | "log">) {
  const cache = {
    mutating: { revision: -1, webhooks: [] as Webhook[] },
    validating: { revision: -1, webhooks: [] as Webhook[] },
  };

  function webhooksOf(phase: Phase): readonly Webhook[] {
    const revision = objects.revision(storages[phase]);
    const kept = cache[phase];
    if (kept.revision !== revision) {
      kept.revision = revision;
      kept.webhooks = objects
        .list(storages[phase])
        .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
        .flatMap((configuration) => configuration["webhooks"] ?? []);
    }
    return kept.webhooks;
  }

  function concerned(phase: Phase, request: AdmissionRequest): Webhook[] {
    // Configurations themselves are exempt, or a broken webhook could not be removed.
    if (request.info.group === group) return [];
    return webhooksOf(phase).filter(
      (webhook) => rulesMatch(webhook, request) && selectorsMatch(webhook, request, objects),
    );
  }

  /** The answer, or undefined when the call failed and its policy says to go on. Throws what the client is told. */
  async function ask(webhook: Webhook, request: AdmissionRequest): Promise<WebhookAnswer | undefined> {
    let answer: WebhookAnswer;
    try {
      if (!(await conditionsMatch(webhook, request))) return undefined;
      answer = await callWebhook(webhook, reviewOf(request), objects);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      log.warn("failed calling webhook", { webhook: webhook.name, err: message });
      if (webhook.failurePolicy === "Ignore") return undefined;
      throw internalError(`failed calling webhook "${webhook.name}": ${message}`);
    }
    for (const warning of answer.warnings ?? []) request.warn(warning);
    if (!answer.allowed) throw denied(webhook, answer);
    return answer;
  }

  async function mutate(
    request: AdmissionRequest,
    prepare: (object: ApiObject) => ApiObject,
  ): Promise<ApiObject | undefined> {
    let object = request.object;
    const again = new Set<Webhook>();
    const called: Webhook[] = [];
    for (const webhook of concerned("mutating", request)) {
      const before = object;
      object = await mutateOnce(webhook, object, request, prepare);
      if (object !== before) for (const earlier of called) again.add(earlier);
      called.push(webhook);
    }
    for (const webhook of again) {
      if (webhook.reinvocationPolicy === "IfNeeded") object = await mutateOnce(webhook, object, request, prepare);
    }
    return object;
  }

  async function mutateOnce(
    webhook: Webhook,
    object: ApiObject | undefined,
    request: AdmissionRequest,
    prepare: (object: ApiObject) => ApiObject,
  ): Promise<ApiObject | undefined> {
    const answer = await ask(webhook, { ...request, ...(object ? { object } : {}) });
    if (!answer?.patch?.length || !object) return object;
    let patched: ApiObject;
    try {
      patched = applyJsonPatch(structuredClone(object), answer.patch as never) as ApiObject;
    } catch (error) {
      throw internalError(
        `admission webhook "${webhook.name}" sent a patch that cannot apply: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    return prepare(patched);
  }

  return {
    hasMutating: (request: AdmissionRequest): boolean => concerned("mutating", request).length > 0,
    mutate,
    validate: async (request: AdmissionRequest): Promise<void> => {
      const answers = await Promise.allSettled(
        concerned("validating", request).map((webhook) => ask(webhook, request)),
      );
      const failed = answers.find((answer) => answer.status === "rejected");
      if (failed) throw failed.reason;
    },
  };
}

/** `admission webhook "v.x.io" denied the request: message`, with the webhook's own code. */
function denied(webhook: Webhook, { status }: WebhookAnswer): ApiError {
  const why = status?.message ? `: ${status.message}` : status?.reason ? `: ${status.reason}` : " without explanation";
  const code = status?.code && status.code >= 400 ? status.code : 403;
  return new ApiError(
    code,
    status?.reason ?? (code === 403 ? "Forbidden" : "BadRequest"),
    `admission webhook "${webhook.name}" denied the request${why}`,
  );
}

function reviewOf(request: AdmissionRequest): ApiObject {
  const { info, operation, subresource, namespace, name, user, object, oldObject, options, dryRun } = request;
  const kind = { group: info.group, version: info.version, kind: info.kind };
  const resource = { group: info.group, version: info.version, resource: info.plural };
  return {
    kind: "AdmissionReview",
    apiVersion: "admission.k8s.io/v1",
    request: {
      uid: randomUUID(),
      kind,
      resource,
      ...(subresource ? { subResource: subresource } : {}),
      requestKind: kind,
      requestResource: resource,
      ...(subresource ? { requestSubResource: subresource } : {}),
      ...(name ? { name } : {}),
      ...(namespace ? { namespace } : {}),
      operation,
      userInfo: user,
      object: object ?? null,
      oldObject: oldObject ?? null,
      dryRun,
      options: Object.keys(options).length ? options : null,
    },
  } as unknown as ApiObject;
}
