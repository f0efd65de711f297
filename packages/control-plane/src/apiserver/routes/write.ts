/** POST, PUT, PATCH and DELETE on objects and on subresources that are objects (status, scale, …). */
import type { IncomingMessage, ServerResponse } from "node:http";
import { badRequest, invalid, methodNotAllowed, notFound, resourceNotServed } from "../api-error.ts";
import type { ApiObject, JsonObject } from "../api-object.ts";
import { applyConfiguration } from "../patch/apply.ts";
import { decodeObject } from "../registry/decode-object.ts";
import { deleteObject } from "../registry/deletion.ts";
import { checkName, type Registry } from "../registry/registry.ts";
import { parseSelection } from "../registry/selectors.ts";
import { createSubresources } from "../registry/subresources.ts";
import type { DeleteOptions, WriteOptions } from "../registry/write-options.ts";
import { groupVersion, type ResourceInfo, type SubresourceInfo } from "../resource-info.ts";
import { typeOf } from "../schema/type-node.ts";
import type { Seams, UserInfo } from "../seams.ts";
import { sendJson, sendObject } from "./answer.ts";
import { mediaType, parseBody, parseJson, parseYaml, readBytes } from "./body.ts";
import type { Format } from "./media-types.ts";
import { partialMetadata } from "./partial-metadata.ts";
import { patchFunction, patchTypes } from "./patch-body.ts";
import { tableOptions } from "./read.ts";

export type WriteRequest = {
  readonly info: ResourceInfo;
  readonly namespace: string;
  readonly name: string;
  readonly subresource: SubresourceInfo | undefined;
  readonly query: URLSearchParams;
  readonly format: Format;
  readonly user: UserInfo;
};

export function createWriter(registry: Registry, seams: Seams, now: () => number) {
  const subresources = createSubresources(registry, seams, now);

  async function create(at: WriteRequest, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { info, namespace } = at;
    const { options, warnings } = writeOptions(at, request);
    const bytes = await readBytes(request);
    if (info.namespaced && namespace === "") throw methodNotAllowed();
    const { value, duplicates } = await parseBody(
      bytes,
      mediaType(request),
      info,
      seams,
      options.fieldValidation !== "Ignore",
    );
    const object = decodeObject(value, info, options, duplicates);
    if (info.virtual !== undefined) {
      if (info.kind === "Binding")
        return sendJson(
          response,
          201,
          JSON.stringify(await subresources.bind(namespace, object.metadata.name, object, options)),
        );
      return sendObject(response, 201, await seams.review(at.user, info, namespace, object), at.format);
    }
    await answer(response, 201, await registry.create(info, namespace, object, options), at, warnings);
  }

  async function createSub(at: WriteRequest, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { options, warnings } = writeOptions(at, request);
    const { value } = await parseBody(await readBytes(request), mediaType(request), undefined, seams, false);
    const result = await subresources.create(
      at.info,
      at.namespace,
      at.name,
      at.subresource!.name,
      value as ApiObject,
      options,
    );
    sendJson(response, 201, JSON.stringify(result), warnings);
  }

  async function replace(at: WriteRequest, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { info, namespace, name, subresource } = at;
    const { options, warnings } = writeOptions(at, request);
    const bytes = await readBytes(request);
    const strict = options.fieldValidation !== "Ignore";
    if (subresource?.name === "scale") {
      const { value } = await parseBody(bytes, mediaType(request), undefined, seams, strict);
      return sendJson(
        response,
        200,
        JSON.stringify(await subresources.scale(info, namespace, name, () => value as ApiObject, options)),
        warnings,
      );
    }
    const { value, duplicates } = await parseBody(bytes, mediaType(request), info, seams, strict);
    const object = decodeObject(value, info, options, duplicates);
    checkName(object, name);
    if (info.namespaced && (object.metadata.namespace ?? namespace) !== namespace)
      throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
    if (
      subresource === undefined &&
      registry.store.get(info.storage, namespace, name) === undefined &&
      createsOnUpdate.has(info.storage) &&
      !object.metadata.resourceVersion &&
      !object.metadata.uid
    ) {
      return answer(response, 201, await registry.create(info, namespace, object, options), at, warnings);
    }
    const change = (current: ApiObject): ApiObject =>
      subresources.select(info, subresource?.name ?? "", structuredClone(object), current);
    const result = await registry.update(
      info,
      { namespace, name, subresource: subresource?.name ?? "", change, requireVersion: true },
      options,
    );
    await answer(response, 200, result, at, warnings);
  }

  async function patch(at: WriteRequest, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const type = mediaType(request);
    const { options, warnings } = writeOptions(at, request);
    if (!patchTypes(at.info).includes(type)) throw patchFunction.unsupported(type, at.info);
    const text = (await readBytes(request)).toString("utf8");
    if (type === "application/apply-patch+yaml") return apply(at, text, options, warnings, response);
    const { info, namespace, name, subresource } = at;
    const compute = patchFunction.of(type, parseJson(text), info, subresource?.name ?? "");
    if (subresource?.name === "scale") {
      return sendJson(
        response,
        200,
        JSON.stringify(
          await subresources.scale(info, namespace, name, (scale) => compute(scale) as ApiObject, options),
        ),
        warnings,
      );
    }
    const change = (current: ApiObject): ApiObject => {
      const object = decodeObject(compute(current), info, options);
      checkName(object, name);
      return subresources.select(info, subresource?.name ?? "", object, current);
    };
    await answer(
      response,
      200,
      await registry.update(info, { namespace, name, subresource: subresource?.name ?? "", change }, options),
      at,
      warnings,
    );
  }

  async function apply(
    at: WriteRequest,
    text: string,
    options: WriteOptions,
    warnings: string[],
    response: ServerResponse,
  ): Promise<void> {
    const { info, namespace, name, query, subresource } = at;
    const manager = query.get("fieldManager") ?? "";
    if (manager === "") {
      throw invalid({ group: "meta.k8s.io", kind: "PatchOptions" }, "", [
        { type: "Required", field: "fieldManager", detail: "is required for apply patch" },
      ]);
    }
    const value = text.trimStart().startsWith("{") ? parseJson(text) : await parseYaml(text);
    const given = value as JsonObject | null;
    if (subresource?.name === "scale") {
      const desired = given?.["spec"]?.replicas;
      const merged = await subresources.scale(
        info,
        namespace,
        name,
        (scale) => ({ ...scale, spec: { replicas: desired } }),
        options,
      );
      return sendJson(response, 200, JSON.stringify(merged), warnings);
    }
    if (!given?.["apiVersion"] || !given["kind"])
      throw badRequest(`error decoding patch: invalid object type: missing apiVersion or kind`);
    if ((given["metadata"]?.managedFields ?? []).length > 0) throw badRequest("metadata.managedFields must be nil");
    const config = decodeObject(value, info, options);
    checkName(config, name);
    delete config.metadata.managedFields;
    const uidWanted = config.metadata.uid;
    const type = typeOf(info);
    const sub = subresource?.name ?? "";
    const book = {
      type,
      config: withoutServerFields(config),
      manager,
      subresource: sub,
      force: options.force,
      now: now(),
    };
    if (registry.store.get(info.storage, namespace, name) === undefined) {
      if (sub !== "" || uidWanted) throw notFound(info, name);
      const created = await registry.create(
        info,
        namespace,
        applyConfiguration({ ...book, live: undefined }),
        { ...options, fieldManager: manager },
        { kept: true },
      );
      return answer(response, 201, created, at, warnings);
    }
    const change = (current: ApiObject): ApiObject => {
      const merged = applyConfiguration({ ...book, live: current });
      if (config.metadata.resourceVersion) merged.metadata.resourceVersion = config.metadata.resourceVersion;
      else delete merged.metadata.resourceVersion;
      if (uidWanted) merged.metadata.uid = uidWanted;
      return subresources.select(
        info,
        sub,
        decodeObject(merged, info, { ...options, fieldValidation: "Ignore" }),
        current,
      );
    };
    const result = await registry.update(
      info,
      { namespace, name, subresource: sub, change, managedFieldsKept: true },
      { ...options, fieldManager: manager },
    );
    await answer(response, 200, result, at, warnings);
  }

  async function remove(at: WriteRequest, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { info, namespace, name } = at;
    const { options, warnings } = writeOptions(at, request);
    const { deleteOptions, dryRun } = await readDeleteOptions(at, request);
    const { gone, object } = await deleteObject(
      registry,
      info,
      namespace,
      name,
      deleteOptions,
      { ...options, dryRun: dryRun || options.dryRun },
      now,
    );
    // Upstream answers a Status once the object is gone, except for pods, whose last state is returned.
    if (gone && info.storage !== "/pods") {
      const details = {
        name,
        ...(info.group === "" ? {} : { group: info.group }),
        kind: info.plural,
        uid: object.metadata.uid,
      };
      return sendJson(
        response,
        200,
        JSON.stringify({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details }),
        warnings,
      );
    }
    await answer(response, 200, object, at, warnings);
  }

  async function removeCollection(at: WriteRequest, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { info, namespace, query } = at;
    const { options, warnings } = writeOptions(at, request);
    const { deleteOptions } = await readDeleteOptions(at, request);
    const selection = parseSelection(info, namespace, query);
    const items: ApiObject[] = [];
    for (const entry of registry.store.list(info.storage, namespace)) {
      if (!selection.matches(entry)) continue;
      try {
        items.push(
          (await deleteObject(registry, info, entry.namespace, entry.name, deleteOptions, options, now)).object,
        );
      } catch (error) {
        if ((error as { status?: { code?: number } }).status?.code !== 404) throw error;
      }
    }
    const list = {
      kind: info.listKind,
      apiVersion: groupVersion(info),
      metadata: { resourceVersion: String(registry.store.revision) },
      items,
    };
    sendJson(response, 200, JSON.stringify(list), warnings);
  }

  async function readDeleteOptions(
    at: WriteRequest,
    request: IncomingMessage,
  ): Promise<{ deleteOptions: DeleteOptions; dryRun: boolean }> {
    const bytes = await readBytes(request);
    const body =
      bytes.length === 0
        ? {}
        : ((await parseBody(bytes, mediaType(request), undefined, seams, false)).value as JsonObject);
    return parseDeleteOptions(body, at.query);
  }

  async function answer(
    response: ServerResponse,
    code: number,
    object: ApiObject,
    at: WriteRequest,
    warnings: string[],
  ): Promise<void> {
    const { format, info, query } = at;
    if (format.as === "Table") {
      const table = seams.renderTable(
        info,
        [object],
        { resourceVersion: object.metadata.resourceVersion },
        tableOptions(query, format, now()),
      );
      return sendObject(response, code, table, format, warnings);
    }
    await sendObject(
      response,
      code,
      format.as === "PartialObjectMetadata" ? partialMetadata(object, format.version) : object,
      format,
      warnings,
    );
  }

  async function getSub(at: WriteRequest, response: ServerResponse): Promise<void> {
    const name = at.subresource!.name;
    if (name === "scale")
      return sendJson(response, 200, JSON.stringify(subresources.getScale(at.info, at.namespace, at.name)));
    if (!["status", "approval", "ephemeralcontainers", "resize"].includes(name)) throw resourceNotServed();
    await sendObject(response, 200, registry.object(registry.find(at.info, at.namespace, at.name), at.info), at.format);
  }

  return { create, createSub, replace, patch, remove, removeCollection, getSub };
}

/** Kinds a PUT may create. */
const createsOnUpdate = new Set([
  "coordination.k8s.io/leases",
  "/endpoints",
  "/events",
  "/limitranges",
  "rbac.authorization.k8s.io/roles",
  "rbac.authorization.k8s.io/rolebindings",
  "rbac.authorization.k8s.io/clusterroles",
  "rbac.authorization.k8s.io/clusterrolebindings",
  "node.k8s.io/runtimeclasses",
]);

function withoutServerFields(config: ApiObject): ApiObject {
  const {
    uid: _uid,
    resourceVersion: _version,
    generation: _generation,
    creationTimestamp: _created,
    ...metadata
  } = config.metadata;
  return { ...config, metadata };
}

function writeOptions(at: WriteRequest, request: IncomingMessage): { options: WriteOptions; warnings: string[] } {
  const { query, user } = at;
  const warnings: string[] = [];
  const dryRun = query.getAll("dryRun");
  if (dryRun.some((value) => value !== "All")) {
    throw invalid({ group: "meta.k8s.io", kind: "CreateOptions" }, "", [
      { type: "NotSupported", field: "dryRun", value: dryRun, detail: 'supported values: "All"' },
    ]);
  }
  const fieldValidation = query.get("fieldValidation") || "Warn";
  if (fieldValidation !== "Ignore" && fieldValidation !== "Warn" && fieldValidation !== "Strict") {
    throw invalid({ group: "meta.k8s.io", kind: "CreateOptions" }, "", [
      {
        type: "NotSupported",
        field: "fieldValidation",
        value: fieldValidation,
        detail: 'supported values: "Ignore", "Strict", "Warn"',
      },
    ]);
  }
  const agent = (request.headers["user-agent"] ?? "unknown").split("/")[0]!.slice(0, 128) || "unknown";
  const force = query.get("force");
  const options: WriteOptions = {
    user,
    dryRun: dryRun.length > 0,
    fieldValidation,
    admission: true,
    fieldManager: query.get("fieldManager") || agent,
    force: force === "true" || force === "1",
    warn: (text) => {
      if (!warnings.includes(text)) warnings.push(text);
    },
  };
  return { options, warnings };
}

/** From the body, or from the query where the body is silent. */
export function parseDeleteOptions(
  body: JsonObject,
  query: URLSearchParams,
): { deleteOptions: DeleteOptions; dryRun: boolean } {
  const grace =
    body["gracePeriodSeconds"] ??
    (query.has("gracePeriodSeconds") ? Number(query.get("gracePeriodSeconds")) : undefined);
  const orphan =
    body["orphanDependents"] ?? (query.has("orphanDependents") ? query.get("orphanDependents") === "true" : undefined);
  const policy =
    body["propagationPolicy"] ??
    query.get("propagationPolicy") ??
    (orphan === undefined ? undefined : orphan ? "Orphan" : "Background");
  const options = { group: "meta.k8s.io", kind: "DeleteOptions" };
  if (grace !== undefined && (!Number.isInteger(grace) || grace < 0)) {
    throw invalid(options, "", [
      { type: "Invalid", field: "gracePeriodSeconds", value: grace, detail: "must be greater than or equal to 0" },
    ]);
  }
  if (policy !== undefined && !["Background", "Foreground", "Orphan"].includes(policy)) {
    throw invalid(options, "", [
      {
        type: "NotSupported",
        field: "propagationPolicy",
        value: policy,
        detail: 'supported values: "Background", "Foreground", "Orphan"',
      },
    ]);
  }
  const deleteOptions: DeleteOptions = {
    ...(grace === undefined ? {} : { gracePeriodSeconds: grace }),
    ...(policy === undefined ? {} : { propagationPolicy: policy }),
    ...(body["preconditions"] === undefined ? {} : { preconditions: body["preconditions"] }),
  };
  return { deleteOptions, dryRun: (body["dryRun"] ?? []).length > 0 || query.getAll("dryRun").length > 0 };
}
