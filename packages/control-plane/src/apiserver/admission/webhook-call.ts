/**
 * One call of a webhook: HTTPS to a ready endpoint of its Service (the API server has no kube-proxy) or to its URL, with TLS
 * verified against the webhook's own CA for `<service>.<namespace>.svc`. Runs in the server's network namespace.
 */
import { request as httpsRequest } from "node:https";
import type { ApiObject } from "../api-object.ts";
import type { ObjectReader } from "../seams.ts";
import { dialErrorText } from "../streaming/dial-error.ts";
import { serviceEndpoint } from "../streaming/service-endpoint.ts";
import type { Webhook } from "./webhook-match.ts";
import type { Stored } from "../stored.ts";

export type WebhookAnswer = {
  readonly allowed: boolean;
  readonly status?: { code?: number; message?: string; reason?: string };
  readonly patch?: readonly unknown[];
  readonly warnings?: readonly string[];
};

/** Sends an AdmissionReview; throws with upstream's words when there is no valid answer. */
export async function callWebhook(webhook: Webhook, review: ApiObject, objects: ObjectReader): Promise<WebhookAnswer> {
  const seconds: number = webhook.timeoutSeconds ?? 10;
  const target = targetOf(webhook.clientConfig ?? {}, seconds, objects);
  let body: string;
  try {
    body = await post(target, webhook.clientConfig?.caBundle, JSON.stringify(review), seconds);
  } catch (error) {
    throw new Error(
      `failed to call webhook: Post "${target.url}": ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  return readAnswer(body, review["request"].uid);
}

type Target = {
  readonly url: string;
  readonly address: string;
  readonly port: number;
  readonly name: string;
  readonly path: string;
};

function targetOf(client: Stored, seconds: number, objects: ObjectReader): Target {
  if (client.service) {
    const { namespace, name, path = "", port = 443 } = client.service;
    const host = `${name}.${namespace}.svc`;
    const url = `https://${host}:${port}${path === "" ? "/" : path.startsWith("/") ? path : `/${path}`}?timeout=${seconds}s`;
    const endpoint = serviceEndpoint(objects, namespace, name, port);
    if (!endpoint.ok) throw new Error(`failed to call webhook: Post "${url}": ${endpoint.why}`);
    return {
      url,
      address: endpoint.address,
      port: endpoint.port,
      name: host,
      path: new URL(url).pathname + new URL(url).search,
    };
  }
  const url = new URL(client.url);
  url.searchParams.set("timeout", `${seconds}s`);
  return {
    url: url.href,
    address: url.hostname.replace(/^\[|\]$/g, ""),
    port: Number(url.port || 443),
    name: url.hostname,
    path: url.pathname + url.search,
  };
}

function post(target: Target, caBundle: string | undefined, body: string, seconds: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = httpsRequest(
      {
        host: target.address,
        port: target.port,
        path: target.path,
        method: "POST",
        agent: false,
        ...(/^[\d.]+$|:/.test(target.name) ? {} : { servername: target.name }),
        ...(caBundle ? { ca: Buffer.from(caBundle, "base64") } : {}),
        headers: {
          host: target.name,
          "content-type": "application/json",
          accept: "application/json",
          "content-length": Buffer.byteLength(body),
          "user-agent": "kube-apiserver-admission",
        },
        signal: AbortSignal.timeout(seconds * 1000),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          if (response.statusCode === 200) resolve(text);
          else
            reject(
              new Error(
                `an error on the server ("${text.slice(0, 200).trim()}") has prevented the request from succeeding`,
              ),
            );
        });
      },
    );
    call.on("error", (error: NodeJS.ErrnoException) => reject(new Error(failureText(error, target, seconds))));
    call.end(body);
  });
}

function failureText(error: NodeJS.ErrnoException, { address, port }: Target, seconds: number): string {
  if (error.name === "TimeoutError" || error.name === "AbortError")
    return `context deadline exceeded (no answer within ${seconds}s)`;
  return dialErrorText(error, address, port);
}

function readAnswer(body: string, uid: string): WebhookAnswer {
  let review: Stored;
  try {
    review = JSON.parse(body);
  } catch {
    throw new Error("failed to call webhook: the answer is not JSON");
  }
  const answer = review?.response;
  if (!answer) throw new Error("webhook response was absent");
  if (review.kind !== "AdmissionReview" || review.apiVersion !== "admission.k8s.io/v1") {
    throw new Error(
      `expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got ${review.apiVersion}, Kind=${review.kind}`,
    );
  }
  if (answer.uid !== uid) throw new Error(`expected response.uid="${uid}", got "${answer.uid ?? ""}"`);
  let patch: unknown[] | undefined;
  if (answer.patch) {
    if (answer.patchType !== "JSONPatch")
      throw new Error(`unsupported patchType "${answer.patchType ?? ""}"; only JSONPatch is allowed`);
    patch = JSON.parse(Buffer.from(answer.patch, "base64").toString("utf8"));
  }
  return {
    allowed: answer.allowed === true,
    ...(answer.status ? { status: answer.status } : {}),
    ...(patch ? { patch } : {}),
    ...(answer.warnings ? { warnings: answer.warnings } : {}),
  };
}
