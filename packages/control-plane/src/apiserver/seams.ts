/**
 * The seams of the API server. The router (routes/) and the registry (registry/) call `Seams`; discovery, openapi,
 * tables, protobuf, auth, admission, crd and streaming implement them. Each of those folders exports one factory,
 * called once at start with the `ServerContext` (named beside each seam); server.ts puts them together.
 *
 * All throw `ApiError` for answers that are not a success.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Log } from "@underlay/log/log";
import type { KeyPair } from "@underlay/pki/authority";
import type { FieldError } from "./api-error.ts";
import type { ApiObject } from "./api-object.ts";
import type { ResourceInfo } from "./resource-info.ts";
import type { Settings } from "./settings.ts";

export type UserInfo = {
  readonly username: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
};

/** What a request asks for, as authorization and admission see it (`verb` is the RBAC verb). */
export type RequestAttributes = {
  readonly verb: string;
  /** Empty for non-resource requests. */
  readonly resource: string;
  readonly group: string;
  readonly version: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
  /** The URL's path, for non-resource rules. */
  readonly path: string;
};

export type Decision = { readonly allowed: boolean; readonly reason?: string };

export type AdmissionRequest = {
  readonly operation: "CREATE" | "UPDATE" | "DELETE" | "CONNECT";
  readonly info: ResourceInfo;
  readonly subresource: string;
  readonly namespace: string;
  /** Empty with generateName. */
  readonly name: string;
  readonly user: UserInfo;
  /** The new object; absent on DELETE. Mutating admission may change it in place or return another. */
  readonly object?: ApiObject;
  readonly oldObject?: ApiObject;
  readonly options: Record<string, unknown>;
  readonly dryRun: boolean;
  /** Adds a `Warning:` header to the answer. */
  warn(text: string): void;
};

export type HttpQuestion = {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly user: UserInfo;
};
export type HttpAnswer = {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string | Buffer;
};

export type TableOptions = {
  /** `v1` or `v1beta1` of meta.k8s.io, as the client asked. */
  readonly version: string;
  /** includeObject query: what goes into rows[].object. */
  readonly includeObject: "Metadata" | "Object" | "None";
  /** false for watch events after the first. */
  readonly columnDefinitions: boolean;
  readonly now: number;
};

export type StreamingTarget = {
  readonly info: ResourceInfo;
  /** exec, attach, portforward, log, proxy. */
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
  /** For proxy: what follows `/proxy` in the path. */
  readonly rest: string;
  readonly query: URLSearchParams;
  readonly user: UserInfo;
};

export type Seams = {
  /** protobuf/: `createBodyDecoder(context)`. The object in a PB envelope, as JSON would have it (zero scalars dropped, §1.1). */
  readonly decodeProtobuf: (body: Buffer, info: ResourceInfo | undefined) => ApiObject;

  /** auth/: `createAuth(context)`. Client certificate, bearer tokens, impersonation. undefined → 401. Anonymous is a user. */
  readonly authenticate: (
    request: IncomingMessage & { socket: TLSSocket | IncomingMessage["socket"] },
  ) => Promise<UserInfo | undefined>;
  readonly authorize: (user: UserInfo, attributes: RequestAttributes) => Promise<Decision>;
  /** auth/: creates on virtual kinds: TokenReview, SelfSubjectReview, *AccessReview, SelfSubjectRulesReview. Returns the answer (201). */
  readonly review: (user: UserInfo, info: ResourceInfo, namespace: string, object: ApiObject) => Promise<ApiObject>;
  /** auth/: `serviceaccounts/<name>/token`. */
  readonly requestToken: (serviceAccount: ApiObject, request: ApiObject) => Promise<ApiObject>;
  /** auth/: paths such as /openid/v1/jwks and /.well-known/openid-configuration; undefined when the path is not one of them. */
  readonly wellKnown: (question: HttpQuestion) => HttpAnswer | undefined;

  /** admission/: `createAdmission(context)`. Built-in mutations and mutating webhooks; returns the object to go on with. */
  readonly admitMutating: (
    request: AdmissionRequest,
    prepare: (object: ApiObject) => ApiObject,
  ) => Promise<ApiObject | undefined>;
  readonly admitValidating: (request: AdmissionRequest) => Promise<void>;

  /** tables/: `createTables(context)`. The Table of objects already selected; list metadata is copied into it. */
  readonly renderTable: (
    info: ResourceInfo,
    objects: readonly ApiObject[],
    listMetadata: Record<string, unknown>,
    options: TableOptions,
  ) => Record<string, unknown>;

  /** discovery/: `createDiscovery(context)`: /api, /apis, /api/v1, /apis/G, /apis/G/V, aggregated by Accept; undefined when the path is none. */
  readonly discovery: (question: HttpQuestion) => HttpAnswer | undefined;
  /** openapi/: `createOpenApi(context)`: /openapi/v2, /openapi/v3[/…]. */
  readonly openapi: (question: HttpQuestion) => HttpAnswer | undefined;

  /** crd/: `createCrds(context)`: custom resources served now; calls context.resources.setCustom(...) whenever they change. */
  readonly crds: { start(): void };

  /** streaming/: `createStreaming(context)`. HTTP requests for log and proxy (and SPDY/HTTP errors); answers by itself. */
  readonly stream: (request: IncomingMessage, response: ServerResponse, target: StreamingTarget) => Promise<void>;
  /** Upgrade requests for exec, attach, portforward, proxy. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer, target: StreamingTarget) => Promise<void>;
};

/** The resources served now, built-in and custom. */
export type ResourceTable = {
  all(): readonly ResourceInfo[];
  find(group: string, version: string, plural: string): ResourceInfo | undefined;
  findKind(group: string, version: string, kind: string): ResourceInfo | undefined;
  /** The stored version of `<group>/<plural>`. */
  findStorage(storage: string): ResourceInfo | undefined;
  /** Replaces every custom resource. */
  setCustom(infos: readonly ResourceInfo[]): void;
  /** Changes with every setCustom; discovery and openapi use it as their cache key. */
  readonly generation: number;
};

export type ObjectEvent = { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: ApiObject };

/** Reads from memory, without authorization. Objects are fresh copies; names are `(storage, namespace | "", name)`. */
export type ObjectReader = {
  get(storage: string, namespace: string, name: string): ApiObject | undefined;
  list(storage: string, namespace?: string): ApiObject[];
  /** Calls back after every committed change of that storage (no replay); returns the unsubscribe. */
  subscribe(storage: string, listener: (event: ObjectEvent) => void): () => void;
  /** A number that changes with every change of that storage (cache key). */
  revision(storage: string): number;
};

/** Writes as the API server itself: strategies, defaults and validation apply, admission and authorization do not. */
export type ObjectWriter = {
  create(info: ResourceInfo, object: ApiObject): Promise<ApiObject>;
  /** Reads, changes, writes; retries on conflict. `change` returns undefined to leave it. 404 is thrown. */
  update(
    info: ResourceInfo,
    namespace: string,
    name: string,
    change: (current: ApiObject) => ApiObject | undefined,
    subresource?: "status",
  ): Promise<ApiObject>;
  delete(
    info: ResourceInfo,
    namespace: string,
    name: string,
    options?: { gracePeriodSeconds?: number; propagationPolicy?: string; uid?: string },
  ): Promise<void>;
};

/** Extra behaviour of one built-in kind, contributed by another folder (crd/ for CustomResourceDefinition). */
export type KindStrategy = {
  default?(object: ApiObject): void;
  /** Before validation; may set or restore fields. `old` absent = create. */
  prepare?(object: ApiObject, old: ApiObject | undefined): void;
  validate?(object: ApiObject, old: ApiObject | undefined): FieldError[];
};

export type ServerContext = {
  readonly settings: Settings;
  readonly log: Log;
  /** The cluster's CA (certificate and key, PEM). */
  readonly authority: KeyPair;
  readonly resources: ResourceTable;
  readonly objects: ObjectReader;
  readonly writer: ObjectWriter;
  /** Adds to the strategy of a built-in kind: key `<group>/<Kind>`. Call it from your factory. */
  addStrategy(key: string, strategy: KindStrategy): void;
  /** `Date.now`, replaceable in tests. */
  readonly now: () => number;
};
