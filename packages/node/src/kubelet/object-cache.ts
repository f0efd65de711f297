/** ConfigMaps, Secrets and service account tokens that pods of this node use, asked for at most once per time to live. */
import type { KubeClient } from "@underlay/kube/client";
import type { ConfigMap, Pod, Secret } from "@underlay/kube/objects";
import { configMaps, secrets, type Resource } from "@underlay/kube/resources";
import type { KubeObject } from "@underlay/kube/objects";

const ttlMs = 30_000;

type Entry = { readonly at: number; readonly value: Promise<unknown> };

export class ObjectCache {
  readonly #client: KubeClient;
  readonly #entries = new Map<string, Entry>();
  readonly #tokens = new Map<string, { token: string; renewAt: number }>();

  constructor(client: KubeClient) {
    this.#client = client;
  }

  /** `fresh` asks the server now: for the first start of a container. */
  configMap(namespace: string, name: string, fresh = false): Promise<ConfigMap | undefined> {
    return this.#get(configMaps, namespace, name, fresh);
  }

  secret(namespace: string, name: string, fresh = false): Promise<Secret | undefined> {
    return this.#get(secrets, namespace, name, fresh);
  }

  /** A token bound to the pod, renewed after 80 % of its life. */
  async token(pod: Pod, request: { audience?: string | undefined; expirationSeconds: number }): Promise<string> {
    const { namespace = "", name = "", uid = "" } = pod.metadata;
    const key = `${uid}/${request.audience ?? ""}/${request.expirationSeconds}`;
    const known = this.#tokens.get(key);
    if (known && known.renewAt > Date.now()) return known.token;
    const answer = await this.#client.createToken(namespace, pod.spec?.serviceAccountName ?? "default", {
      ...(request.audience ? { audiences: [request.audience] } : {}),
      expirationSeconds: request.expirationSeconds,
      boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid },
    });
    const token = answer.status?.token ?? "";
    const expires =
      Date.parse(String(answer.status?.expirationTimestamp ?? "")) || Date.now() + request.expirationSeconds * 1000;
    this.#tokens.set(key, { token, renewAt: Date.now() + (expires - Date.now()) * 0.8 });
    return token;
  }

  forgetPod(uid: string): void {
    for (const key of this.#tokens.keys()) if (key.startsWith(`${uid}/`)) this.#tokens.delete(key);
  }

  #get<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    name: string,
    fresh: boolean,
  ): Promise<T | undefined> {
    const key = `${resource.plural}/${namespace}/${name}`;
    const known = this.#entries.get(key);
    // Also a fresh read is shared for a moment: the pods of a rollout start together.
    if (known && Date.now() - known.at < (fresh ? 500 : ttlMs)) return known.value as Promise<T | undefined>;
    const value = this.#client.find(resource, name, { namespace });
    this.#entries.set(key, { at: Date.now(), value });
    value.catch(() => this.#entries.delete(key));
    return value;
  }
}
