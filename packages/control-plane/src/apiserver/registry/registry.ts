/**
 * What happens on a write, for every kind: decode → default → mutating admission → prepare → validate → validating
 * admission → managed fields → store. Kinds differ in their strategy (strategy.ts), deletion is in deletion.ts,
 * subresources with a body of their own in subresources.ts. Reading is not here (routes/read.ts, watch/).
 */
import { randomUUID } from "node:crypto";
import { alreadyExists, badRequest, conflict, forbidden, invalid, notFound } from "../api-error.ts";
import { kubernetesTime, type ApiObject } from "../api-object.ts";
import { deepEqual } from "../patch/json-patch.ts";
import { trackUpdate } from "../patch/managed-fields.ts";
import type { ResourceInfo } from "../resource-info.ts";
import { typeOf } from "../schema/type-node.ts";
import type { AdmissionRequest, Seams } from "../seams.ts";
import type { Entry, Store } from "../store/store.ts";
import { toStorage, toVersion } from "./conversions.ts";
import { decodeObject } from "./decode-object.ts";
import { generateName, validateMetadata } from "./object-names.ts";
import type { ServiceAllocator } from "./service-allocation.ts";
import type { Strategies } from "./strategy.ts";
import type { WriteOptions } from "./write-options.ts";

export type Admission = Pick<Seams, "admitMutating" | "admitValidating">;

export type UpdateRequest = {
  readonly namespace: string;
  readonly name: string;
  /** `""`, `status`, or another subresource's name (for managed fields and admission). */
  readonly subresource: string;
  /** The new object from the current one (a fresh copy); may be called again after a lost race. */
  change(current: ApiObject): ApiObject | undefined | Promise<ApiObject | undefined>;
  /** Set by server-side apply, which keeps its own books. */
  readonly managedFieldsKept?: true;
  /** Objects of kinds that may be changed without a resourceVersion: PUT on CRs needs one. */
  readonly requireVersion?: true;
};

const attempts = 6;

export class Registry {
  readonly store: Store;
  readonly strategies: Strategies;
  readonly #admission: Admission;
  readonly #services: ServiceAllocator;
  readonly #now: () => number;

  constructor(parts: {
    store: Store;
    strategies: Strategies;
    admission: Admission;
    services: ServiceAllocator;
    now: () => number;
  }) {
    this.store = parts.store;
    this.strategies = parts.strategies;
    this.#admission = parts.admission;
    this.#services = parts.services;
    this.#now = parts.now;
  }

  /** A fresh copy of a stored object, in the version of `info`. */
  object(entry: Entry, info: ResourceInfo): ApiObject {
    const object = toVersion(info, JSON.parse(entry.json));
    info.custom?.default(object);
    return object;
  }

  /** Stored bytes in the version of `info`. */
  json(entry: Entry, info: ResourceInfo): string {
    return info.custom === undefined && !info.storage.startsWith("/events")
      ? entry.json
      : JSON.stringify(this.object(entry, info));
  }

  find(info: ResourceInfo, namespace: string, name: string): Entry {
    const entry = this.store.get(info.storage, namespace, name);
    if (entry === undefined) throw notFound(info, name);
    return entry;
  }

  async create(
    info: ResourceInfo,
    namespace: string,
    raw: ApiObject,
    options: WriteOptions,
    managed?: { kept: true },
  ): Promise<ApiObject> {
    let object = raw;
    this.#place(info, namespace, object);
    this.#requireNamespace(info, namespace, object.metadata.name);
    const { metadata } = object;
    metadata.uid = randomUUID();
    metadata.creationTimestamp = kubernetesTime(this.#now());
    for (const field of [
      "resourceVersion",
      "deletionTimestamp",
      "deletionGracePeriodSeconds",
      "selfLink",
      "generation",
    ] as const)
      delete metadata[field];
    const generated = metadata.name === "" && metadata.generateName !== undefined && metadata.generateName !== "";
    if (info.subresources.some((s) => s.name === "status") && !keepsStatusOnCreate(info)) delete object["status"];
    if (generated) metadata.name = generateName(metadata.generateName!);
    this.strategies.default(info, object);
    object = await this.#mutate(
      info,
      object,
      { operation: "CREATE", subresource: "", namespace, name: generated ? "" : metadata.name },
      options,
    );
    if (this.strategies.countsGeneration(info)) object.metadata.generation = 1;
    this.strategies.prepare(info, object, undefined);
    if (info.storage === "certificates.k8s.io/certificatesigningrequests")
      object["spec"] = { ...object["spec"], ...requester(options) };
    this.#refuse(info, object, undefined);
    await this.#validate(
      info,
      object,
      undefined,
      { operation: "CREATE", subresource: "", namespace, name: object.metadata.name },
      options,
    );
    if (managed === undefined)
      trackUpdate({
        type: typeOf(info),
        object,
        old: undefined,
        manager: options.fieldManager,
        subresource: "",
        now: this.#now(),
      });
    for (let attempt = 0; this.store.get(info.storage, namespace, object.metadata.name) !== undefined; attempt++) {
      if (!generated || attempt >= 8) throw alreadyExists(info, object.metadata.name);
      object.metadata.name = generateName(object.metadata.generateName!);
    }
    // Allocation and storing are one synchronous step: no other request can come in between.
    this.#requireNamespace(info, namespace, object.metadata.name);
    const allocation =
      info.storage === "/services" ? this.#services.allocate(object, undefined, options.dryRun) : undefined;
    if (allocation !== undefined && allocation.length > 0) throw invalid(info, object.metadata.name, allocation);
    if (options.dryRun) return object;
    const entry = this.store.put(info.storage, toStorage(info, object));
    await this.store.settled();
    return this.object(entry, info);
  }

  /** Changes an existing object; answers its state after the change. A vanished object is a 404. */
  async update(info: ResourceInfo, request: UpdateRequest, options: WriteOptions): Promise<ApiObject> {
    for (let attempt = 1; ; attempt++) {
      const entry = this.find(info, request.namespace, request.name);
      const old = this.object(entry, info);
      const changed = await request.change(structuredClone(old));
      if (changed === undefined) return old;
      this.#checkVersion(info, changed, old, request);
      const object = await this.#prepareUpdate(info, changed, old, request, options);
      if (this.store.get(info.storage, request.namespace, request.name) !== entry) {
        // Computed again on the newer object; a writer that named its version is refused there.
        if (attempt < attempts) continue;
        throw conflict(info, request.name);
      }
      return this.#finishUpdate(info, object, old, request, options);
    }
  }

  /** Refuses a write meant for another object or another version of it. */
  #checkVersion(info: ResourceInfo, object: ApiObject, old: ApiObject, request: UpdateRequest): void {
    const { resourceVersion, uid } = object.metadata;
    if (uid !== undefined && uid !== "" && uid !== old.metadata.uid) {
      throw conflict(
        info,
        request.name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`,
      );
    }
    if (resourceVersion === undefined || resourceVersion === "" || resourceVersion === "0") {
      if (request.requireVersion === undefined || info.custom === undefined) return;
      throw invalid(info, request.name, [
        { type: "Invalid", field: "metadata.resourceVersion", value: 0, detail: "must be specified for an update" },
      ]);
    }
    if (resourceVersion !== old.metadata.resourceVersion) throw conflict(info, request.name);
  }

  async #prepareUpdate(
    info: ResourceInfo,
    given: ApiObject,
    old: ApiObject,
    request: UpdateRequest,
    options: WriteOptions,
  ): Promise<ApiObject> {
    let object = given;
    keepSystemFields(object, old);
    const { subresource, namespace, name } = request;
    object = separateStatus(info, object, old, subresource);
    this.strategies.default(info, object);
    object = await this.#mutate(
      info,
      object,
      { operation: "UPDATE", subresource, namespace, name, oldObject: old },
      options,
    );
    keepSystemFields(object, old);
    object = separateStatus(info, object, old, subresource);
    if (subresource === "") this.strategies.prepare(info, object, old);
    this.#countGeneration(info, object, old);
    this.#refuse(info, object, old, subresource);
    await this.#validate(info, object, old, { operation: "UPDATE", subresource, namespace, name }, options);
    return object;
  }

  async #finishUpdate(
    info: ResourceInfo,
    object: ApiObject,
    old: ApiObject,
    request: UpdateRequest,
    options: WriteOptions,
  ): Promise<ApiObject> {
    if (request.managedFieldsKept === undefined) {
      trackUpdate({
        type: typeOf(info),
        object,
        old,
        manager: options.fieldManager,
        subresource: request.subresource,
        now: this.#now(),
      });
    }
    const allocation =
      info.storage === "/services" && request.subresource === ""
        ? this.#services.allocate(object, old, options.dryRun)
        : [];
    if (allocation.length > 0) throw invalid(info, request.name, allocation);
    object.metadata.resourceVersion = old.metadata.resourceVersion!;
    if (isUnchanged(object, old)) return old;
    if (options.dryRun) return object;
    if (isFinished(info, object)) {
      this.store.remove(info.storage, request.namespace, request.name, toStorage(info, object));
      this.#services.release(info, old);
      await this.store.settled();
      return object;
    }
    const entry = this.store.put(info.storage, toStorage(info, object));
    await this.store.settled();
    return this.object(entry, info);
  }

  /** Marks an object stored outside create/update (deletion) and keeps allocations true. */
  remove(info: ResourceInfo, object: ApiObject): void {
    this.store.remove(info.storage, object.metadata.namespace ?? "", object.metadata.name, toStorage(info, object));
    this.#services.release(info, object);
  }

  async admitDelete(info: ResourceInfo, object: ApiObject, options: WriteOptions): Promise<void> {
    if (!options.admission) return;
    const { namespace = "", name } = object.metadata;
    const request: AdmissionRequest = {
      operation: "DELETE",
      info,
      subresource: "",
      namespace,
      name,
      user: options.user,
      oldObject: object,
      options: { kind: "DeleteOptions", apiVersion: "meta.k8s.io/v1" },
      dryRun: options.dryRun,
      warn: options.warn,
    };
    await this.#admission.admitMutating(request, (o) => o);
    await this.#admission.admitValidating(request);
  }

  async #mutate(info: ResourceInfo, object: ApiObject, at: Place, options: WriteOptions): Promise<ApiObject> {
    if (!options.admission) return object;
    // After each webhook the object is decoded and defaulted again, as if the client had sent it so.
    const prepare = (changed: ApiObject): ApiObject => {
      const decoded = decodeObject(changed, info, { fieldValidation: "Ignore", warn: options.warn });
      this.strategies.default(info, decoded);
      return decoded;
    };
    return (await this.#admission.admitMutating(this.#admissionRequest(info, object, at, options), prepare)) ?? object;
  }

  async #validate(
    info: ResourceInfo,
    object: ApiObject,
    old: ApiObject | undefined,
    at: Place,
    options: WriteOptions,
  ): Promise<void> {
    if (!options.admission) return;
    await this.#admission.admitValidating(
      this.#admissionRequest(info, object, old === undefined ? at : { ...at, oldObject: old }, options),
    );
  }

  #admissionRequest(info: ResourceInfo, object: ApiObject, at: Place, options: WriteOptions): AdmissionRequest {
    const kind = at.operation === "CREATE" ? "CreateOptions" : "UpdateOptions";
    return {
      info,
      object,
      user: options.user,
      dryRun: options.dryRun,
      warn: options.warn,
      ...at,
      options: {
        kind,
        apiVersion: "meta.k8s.io/v1",
        ...(options.dryRun ? { dryRun: ["All"] } : {}),
        fieldManager: options.fieldManager,
      },
    };
  }

  #refuse(info: ResourceInfo, object: ApiObject, old: ApiObject | undefined, subresource = ""): void {
    const errors = validateMetadata(info, object, old);
    if (subresource === "" || subresource === "scale" || info.custom !== undefined)
      errors.push(...this.strategies.validate(info, object, old));
    if (errors.length > 0) throw invalid(info, object.metadata.name, errors);
  }

  #countGeneration(info: ResourceInfo, object: ApiObject, old: ApiObject): void {
    if (old.metadata.generation === undefined && !this.strategies.countsGeneration(info)) return;
    const before = old.metadata.generation ?? 1;
    object.metadata.generation =
      this.strategies.countsGeneration(info) && !deepEqual(counted(info, object), counted(info, old))
        ? before + 1
        : before;
  }

  /** Body and URL must agree on the namespace. */
  #place(info: ResourceInfo, namespace: string, object: ApiObject): void {
    const { metadata } = object;
    if (!info.namespaced) {
      delete metadata.namespace;
      return;
    }
    if (metadata.namespace !== undefined && metadata.namespace !== "" && metadata.namespace !== namespace) {
      throw badRequest(`the namespace of the provided object does not match the namespace sent on the request`);
    }
    metadata.namespace = namespace;
  }

  #requireNamespace(info: ResourceInfo, namespace: string, name: string): void {
    if (!info.namespaced) return;
    const entry = this.store.get("/namespaces", "", namespace);
    if (entry === undefined) throw notFound({ group: "", plural: "namespaces" }, namespace);
    if (entry.fields["status.phase"] !== "Terminating") return;
    throw forbidden(
      info,
      name,
      `unable to create new content in namespace ${namespace} because it is being terminated`,
      [
        {
          reason: "NamespaceTerminating",
          message: `namespace ${namespace} is being terminated`,
          field: "metadata.namespace",
        },
      ],
    );
  }
}

type Place = {
  operation: "CREATE" | "UPDATE";
  subresource: string;
  namespace: string;
  name: string;
  oldObject?: ApiObject;
};

/** Nodes register with their status; virtual parts of CRDs are made by the CRD engine. */
const keepsStatusOnCreate = (info: ResourceInfo): boolean =>
  info.storage === "/nodes" ||
  info.storage === "storage.k8s.io/volumeattachments" ||
  info.storage === "apiregistration.k8s.io/apiservices";

/** A certificate request speaks for who sent it, whatever its body says. */
function requester({ user }: WriteOptions): Record<string, unknown> {
  return {
    username: user.username,
    groups: [...user.groups],
    ...(user.uid === undefined ? {} : { uid: user.uid }),
    ...(user.extra === undefined ? {} : { extra: user.extra }),
  };
}

function keepSystemFields(object: ApiObject, old: ApiObject): void {
  const { metadata } = object;
  metadata.name = old.metadata.name;
  for (const field of [
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
  ] as const) {
    if (old.metadata[field] === undefined) delete metadata[field];
    else (metadata as Record<string, unknown>)[field] = old.metadata[field];
  }
}

/** The main endpoint keeps the old status; `/status` keeps everything else (labels and annotations may change on built-ins). */
function separateStatus(info: ResourceInfo, object: ApiObject, old: ApiObject, subresource: string): ApiObject {
  const hasStatus = info.subresources.some((s) => s.name === "status");
  if (subresource === "status") {
    const kept: ApiObject = {
      ...structuredClone(old),
      metadata: {
        ...structuredClone(old.metadata),
        ...(object.metadata.managedFields === undefined ? {} : { managedFields: object.metadata.managedFields }),
      },
    };
    if (info.custom === undefined) {
      for (const field of ["labels", "annotations"] as const) {
        if (object.metadata[field] === undefined) delete kept.metadata[field];
        else kept.metadata[field] = object.metadata[field];
      }
    }
    if (object["status"] === undefined) delete kept["status"];
    else kept["status"] = object["status"];
    return kept;
  }
  // Other subresources (binding, approval…) have chosen their fields already (subresources.ts).
  if (!hasStatus || subresource !== "") return object;
  if (old["status"] === undefined) delete object["status"];
  else object["status"] = structuredClone(old["status"]);
  return object;
}

function counted(info: ResourceInfo, object: ApiObject): unknown {
  const { metadata: _metadata, status: _status, ...rest } = object;
  return info.custom !== undefined && !info.custom.hasStatus ? { ...rest, status: _status } : rest;
}

/** A write that changes nothing (times in managedFields aside) leaves version and watchers alone. */
function isUnchanged(object: ApiObject, old: ApiObject): boolean {
  const plain = (o: ApiObject): unknown => ({
    ...o,
    metadata: {
      ...o.metadata,
      managedFields: (o.metadata.managedFields ?? []).map((entry) => ({ ...entry, time: undefined })),
    },
  });
  return deepEqual(plain(object), plain(old));
}

/** Being deleted with nothing left to wait for. */
function isFinished(info: ResourceInfo, object: ApiObject): boolean {
  const { deletionTimestamp, finalizers = [], deletionGracePeriodSeconds = 0 } = object.metadata;
  if (deletionTimestamp === undefined || finalizers.length > 0) return false;
  if (info.storage === "/namespaces") return (object["spec"]?.finalizers ?? []).length === 0;
  return deletionGracePeriodSeconds === 0;
}

/** Throws when a body's name is not the URL's. */
export function checkName(object: ApiObject, name: string): void {
  if (object.metadata.name === "") object.metadata.name = name;
  if (object.metadata.name !== name) {
    throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`);
  }
}
