/** `matchConditions` of a webhook: CEL over the request. The evaluator is loaded when the first condition is met. */
import type { AdmissionRequest } from "../seams.ts";
import type { Webhook } from "./webhook-match.ts";

/** All conditions hold. A condition that cannot be evaluated throws: the webhook's failure policy decides. */
export async function conditionsMatch(webhook: Webhook, request: AdmissionRequest): Promise<boolean> {
  const conditions: { name: string; expression: string }[] = webhook.matchConditions ?? [];
  if (conditions.length === 0) return true;
  const { celEnvironment } = await import("../cel/environment.ts");
  const { celValue } = await import("../cel/cel-value.ts");
  const { info, operation, namespace, name, subresource, user, dryRun } = request;
  const context = {
    object: celValue(request.object, undefined),
    oldObject: celValue(request.oldObject, undefined),
    request: celValue(
      {
        operation,
        namespace,
        name,
        dryRun,
        subResource: subresource,
        userInfo: user,
        kind: { group: info.group, version: info.version, kind: info.kind },
        resource: { group: info.group, version: info.version, resource: info.plural },
      },
      undefined,
    ),
  };
  return conditions.every((condition) => celEnvironment().evaluate(condition.expression, context) === true);
}
