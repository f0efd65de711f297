/**
 * The Kubernetes client: one method per verb over typed resource descriptors (resources.ts).
 * It never caches; informer.ts does. Errors are those of errors.ts. The wire is transport.ts.
 */
import type http from "node:http";
import type { KubeConfig } from "./config.ts";
import { isNotFound } from "./errors.ts";
import type { KubeObject, List, Scale, TokenRequest, Wire } from "./objects.ts";
import { apiVersionOf, pathOf, pods, serviceAccounts, type Resource } from "./resources.ts";
import { Transport, type Method } from "./transport.ts";

export * from "./errors.ts";

export type Common = {
  namespace?: string | undefined;
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  /** How long refused connections and 429s are retried; 0 never. */
  retryForMs?: number | undefined;
};
export type Query = Record<string, string | number | boolean | readonly string[] | undefined>;
export type ListOptions = Common & {
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  limit?: number | undefined;
  continue?: string | undefined;
  resourceVersion?: string | undefined;
  accept?: string;
};
export type WriteOptions = Common & { fieldManager?: string | undefined; dryRun?: boolean | undefined };
export type DeleteOptions = Common & {
  gracePeriodSeconds?: number | undefined;
  propagationPolicy?: "Background" | "Foreground" | "Orphan" | undefined;
  preconditions?: { uid?: string | undefined; resourceVersion?: string | undefined } | undefined;
};
export type JsonPatchOperation = {
  op: "add" | "remove" | "replace" | "test" | "move" | "copy";
  path: string;
  from?: string;
  value?: unknown;
};
export type Patch =
  | { type: "merge" | "strategic"; body: unknown }
  | { type: "json"; body: readonly JsonPatchOperation[] };
export type RequestOptions = Common & { query?: Query; body?: unknown; contentType?: string; accept?: string };

const patchTypes = {
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
  json: "application/json-patch+json",
} as const;

export class KubeClient {
  readonly config: KubeConfig;
  readonly #transport: Transport;
  readonly #timeoutMs: number;
  readonly #retryForMs: number;

  constructor(config: KubeConfig, options: { userAgent?: string; timeoutMs?: number; retryForMs?: number } = {}) {
    this.config = config;
    this.#transport = new Transport(config, options.userAgent ?? "underlay");
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#retryForMs = options.retryForMs ?? 10_000;
  }

  get<T extends KubeObject>(
    of: Resource<T>,
    name: string,
    options: Common & { resourceVersion?: string; subresource?: string } = {},
  ): Promise<T> {
    const query = { resourceVersion: options.resourceVersion };
    return this.request<T>("GET", pathOf(of, options.namespace, name, options.subresource), { ...options, query });
  }

  /** As get, but undefined when there is no such object. */
  async find<T extends KubeObject>(
    of: Resource<T>,
    name: string,
    options: Common & { resourceVersion?: string } = {},
  ): Promise<T | undefined> {
    try {
      return await this.get(of, name, options);
    } catch (err) {
      if (isNotFound(err)) return undefined;
      throw err;
    }
  }

  async list<T extends KubeObject>(of: Resource<T>, options: ListOptions = {}): Promise<List<T>> {
    const query = {
      labelSelector: options.labelSelector,
      fieldSelector: options.fieldSelector,
      limit: options.limit,
      continue: options.continue,
      resourceVersion: options.resourceVersion,
    };
    const list = await this.request<List<T>>("GET", pathOf(of, options.namespace), { ...options, query });
    list.items ??= [];
    return list;
  }

  /** Every item, page by page. */
  async listAll<T extends KubeObject>(of: Resource<T>, options: ListOptions = {}): Promise<T[]> {
    const items: T[] = [];
    let page = await this.list(of, { limit: 500, ...options });
    items.push(...page.items);
    while (page.metadata.continue) {
      page = await this.list(of, {
        limit: 500,
        ...options,
        resourceVersion: undefined,
        continue: page.metadata.continue,
      });
      items.push(...page.items);
    }
    return items;
  }

  create<T extends KubeObject>(of: Resource<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const path = pathOf(of, options.namespace ?? object.metadata.namespace);
    return this.request<T>("POST", path, { ...options, query: writeQuery(options), body: typed(of, object) });
  }

  /** PUT: compare-and-swap when the object carries a resourceVersion. */
  update<T extends KubeObject>(
    of: Resource<T>,
    object: T,
    options: WriteOptions & { subresource?: string } = {},
  ): Promise<T> {
    const { namespace = options.namespace, name = "" } = object.metadata;
    const path = pathOf(of, namespace, name, options.subresource);
    return this.request<T>("PUT", path, { ...options, query: writeQuery(options), body: typed(of, object) });
  }

  updateStatus<T extends KubeObject>(of: Resource<T>, object: T, options: WriteOptions = {}): Promise<T> {
    return this.update(of, object, { ...options, subresource: "status" });
  }

  patch<T extends KubeObject>(
    of: Resource<T>,
    name: string,
    patch: Patch,
    options: WriteOptions & { subresource?: string; force?: boolean } = {},
  ): Promise<T> {
    return this.request<T>("PATCH", pathOf(of, options.namespace, name, options.subresource), {
      ...options,
      query: { ...writeQuery(options), force: options.force },
      body: patch.body,
      contentType: patchTypes[patch.type],
    });
  }

  /** Server-side apply; creates the object when absent. */
  apply<T extends KubeObject>(
    of: Resource<T>,
    object: T,
    options: WriteOptions & { fieldManager: string; force?: boolean; subresource?: string },
  ): Promise<T> {
    const { namespace = options.namespace, name = "" } = object.metadata;
    return this.request<T>("PATCH", pathOf(of, namespace, name, options.subresource), {
      ...options,
      query: { ...writeQuery(options), force: options.force ?? false },
      body: typed(of, object),
      contentType: "application/apply-patch+yaml",
    });
  }

  async delete<T extends KubeObject>(of: Resource<T>, name: string, options: DeleteOptions = {}): Promise<void> {
    await this.request("DELETE", pathOf(of, options.namespace, name), { ...options, body: deleteBody(options) });
  }

  async deleteCollection<T extends KubeObject>(
    of: Resource<T>,
    options: DeleteOptions & { labelSelector?: string; fieldSelector?: string } = {},
  ): Promise<void> {
    const query = { labelSelector: options.labelSelector, fieldSelector: options.fieldSelector };
    await this.request("DELETE", pathOf(of, options.namespace), { ...options, query, body: deleteBody(options) });
  }

  /** Assigns a pod to a node. */
  async bind(
    namespace: string,
    pod: string,
    node: string,
    options: Common & { uid?: string | undefined } = {},
  ): Promise<void> {
    const body = {
      apiVersion: "v1",
      kind: "Binding",
      metadata: { name: pod, namespace, ...(options.uid ? { uid: options.uid } : {}) },
      target: { apiVersion: "v1", kind: "Node", name: node },
    };
    await this.request("POST", pathOf(pods, namespace, pod, "binding"), { ...options, body });
  }

  /** Asks for a pod's eviction; a disruption budget that forbids it is a thrown 429. */
  async evict(namespace: string, pod: string, options: DeleteOptions = {}): Promise<void> {
    const body = {
      apiVersion: "policy/v1",
      kind: "Eviction",
      metadata: { name: pod, namespace },
      deleteOptions: deleteBody(options),
    };
    await this.request("POST", pathOf(pods, namespace, pod, "eviction"), { retryForMs: 0, ...options, body });
  }

  createToken(
    namespace: string,
    serviceAccount: string,
    spec: Partial<Wire<TokenRequest["spec"]>>,
    options: Common = {},
  ): Promise<TokenRequest> {
    const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", metadata: {}, spec };
    return this.request("POST", pathOf(serviceAccounts, namespace, serviceAccount, "token"), { ...options, body });
  }

  getScale<T extends KubeObject>(of: Resource<T>, name: string, options: Common = {}): Promise<Scale> {
    return this.request("GET", pathOf(of, options.namespace, name, "scale"), options);
  }

  setScale<T extends KubeObject>(
    of: Resource<T>,
    name: string,
    replicas: number,
    options: Common = {},
  ): Promise<Scale> {
    const path = pathOf(of, options.namespace, name, "scale");
    return this.request("PATCH", path, { ...options, body: { spec: { replicas } }, contentType: patchTypes.merge });
  }

  /** Any path. JSON answers are parsed, others returned as text. */
  async request<R = unknown>(method: Method, path: string, options: RequestOptions = {}): Promise<R> {
    const { text, contentType } = await this.#transport.send(this.#prepare(method, path, options));
    return (contentType.includes("json") ? JSON.parse(text) : text) as R;
  }

  /** The answer as a stream (logs, watches); its status is already checked. */
  stream(method: Method, path: string, options: RequestOptions = {}): Promise<http.IncomingMessage> {
    return this.#transport.open(this.#prepare(method, path, options));
  }

  /** Drops kept connections. The client stays usable. */
  close(): void {
    this.#transport.close();
  }

  #prepare(method: Method, path: string, options: RequestOptions) {
    return {
      method,
      path: path + queryString(options.query),
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      contentType: options.contentType,
      accept: options.accept,
      signal: options.signal,
      timeoutMs: options.timeoutMs ?? this.#timeoutMs,
      retryForMs: options.retryForMs ?? this.#retryForMs,
    };
  }
}

function typed<T extends KubeObject>(of: Resource<T>, object: T): T {
  return object.kind ? object : { ...object, apiVersion: apiVersionOf(of), kind: of.kind };
}

function writeQuery(options: WriteOptions): Query {
  return { fieldManager: options.fieldManager, dryRun: options.dryRun ? "All" : undefined };
}

function deleteBody(options: DeleteOptions): unknown {
  const { gracePeriodSeconds, propagationPolicy, preconditions } = options;
  return { apiVersion: "v1", kind: "DeleteOptions", gracePeriodSeconds, propagationPolicy, preconditions };
}

function queryString(query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) parameters.append(name, String(one));
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}
