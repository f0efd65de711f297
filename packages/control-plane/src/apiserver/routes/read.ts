/** GET of one object and LIST, with resourceVersion rules, pages from one snapshot, Table and PartialObjectMetadata. */
import type { ServerResponse } from "node:http";
import { ApiError, badRequest, expired, invalid } from "../api-error.ts";
import { groupVersion, type ResourceInfo } from "../resource-info.ts";
import type { Registry } from "../registry/registry.ts";
import { parseSelection } from "../registry/selectors.ts";
import type { Seams, TableOptions } from "../seams.ts";
import type { Entry } from "../store/store.ts";
import { sendJson, sendObject } from "./answer.ts";
import type { Format } from "./media-types.ts";
import { partialMetadata, partialMetadataList } from "./partial-metadata.ts";
import { createSnapshots, type Snapshots } from "./snapshots.ts";

export type ReadRequest = {
  readonly info: ResourceInfo;
  readonly namespace: string;
  readonly name: string;
  readonly query: URLSearchParams;
  readonly format: Format;
};

export function createReader(registry: Registry, seams: Pick<Seams, "renderTable">, now: () => number) {
  const { store } = registry;
  const snapshots = createSnapshots(now);

  async function get({ info, namespace, name, query, format }: ReadRequest, response: ServerResponse): Promise<void> {
    if (!store.isSettled) await store.settled();
    await waitForRevision(registry, parseRevision(query.get("resourceVersion") ?? ""));
    const entry = registry.find(info, namespace, name);
    if (format.as === "object" && format.encoding === "json")
      return sendJson(response, 200, registry.json(entry, info));
    const object = registry.object(entry, info);
    if (format.as === "Table") {
      const metadata = { resourceVersion: object.metadata.resourceVersion };
      return sendObject(
        response,
        200,
        seams.renderTable(info, [object], metadata, tableOptions(query, format, now())),
        format,
      );
    }
    return sendObject(
      response,
      200,
      format.as === "PartialObjectMetadata" ? partialMetadata(object, format.version) : object,
      format,
    );
  }

  async function list({ info, namespace, query, format }: ReadRequest, response: ServerResponse): Promise<void> {
    const page = await selectPage(registry, snapshots, info, namespace, query);
    if (format.as === "object" && format.encoding === "json") {
      const head = `{"kind":${JSON.stringify(info.listKind)},"apiVersion":${JSON.stringify(groupVersion(info))},"metadata":${JSON.stringify(page.metadata)},"items":[`;
      return sendJson(response, 200, `${head}${page.entries.map((entry) => registry.json(entry, info)).join(",")}]}`);
    }
    const objects = page.entries.map((entry) => registry.object(entry, info));
    if (format.as === "Table")
      return sendObject(
        response,
        200,
        seams.renderTable(info, objects, page.metadata, tableOptions(query, format, now())),
        format,
      );
    if (format.as === "PartialObjectMetadata")
      return sendObject(response, 200, partialMetadataList(objects, page.metadata, format.version), format);
    return sendObject(
      response,
      200,
      { kind: info.listKind, apiVersion: groupVersion(info), metadata: page.metadata, items: objects },
      format,
    );
  }

  return { get, list };
}

export function tableOptions(query: URLSearchParams, format: Format, now: number): TableOptions {
  const include = query.get("includeObject") ?? "";
  if (!["", "Metadata", "Object", "None"].includes(include))
    throw badRequest(`unrecognized includeObject value: ${JSON.stringify(include)}`);
  return {
    version: format.version,
    includeObject: (include || "Metadata") as TableOptions["includeObject"],
    columnDefinitions: true,
    now,
  };
}

type ListMetadata = { resourceVersion: string; continue?: string; remainingItemCount?: number };

async function selectPage(
  registry: Registry,
  snapshots: Snapshots,
  info: ResourceInfo,
  namespace: string,
  query: URLSearchParams,
): Promise<{ entries: readonly Entry[]; metadata: ListMetadata }> {
  const { store } = registry;
  refuseOptions(info, query);
  if (!store.isSettled) await store.settled();
  const selection = parseSelection(info, namespace, query);
  const version = query.get("resourceVersion") ?? "";
  const match = query.get("resourceVersionMatch") ?? "";
  const token = query.get("continue") ?? "";
  const revision = parseRevision(version);
  await waitForRevision(registry, revision);
  if (match === "Exact" && revision !== store.revision && revision < store.revisionOf(info.storage)) {
    throw expired(`The provided resource version is too old: ${revision} (${store.revision})`);
  }
  // resourceVersion=0 asks for "any": upstream serves it from its cache, which does not page.
  const limit = version === "0" ? 0 : parseLimit(query.get("limit"));

  let rest: readonly Entry[];
  let at = store.revision;
  if (token === "") {
    const candidates =
      selection.name !== undefined && namespace !== ""
        ? [store.get(info.storage, namespace, selection.name)].filter((e) => e !== undefined)
        : store.list(info.storage, namespace);
    rest = candidates.filter((entry) => selection.matches(entry));
  } else {
    const snapshot = snapshots.resume(token);
    rest = snapshot.entries;
    at = snapshot.revision;
  }
  const metadata: ListMetadata = { resourceVersion: String(at) };
  if (limit === 0 || rest.length <= limit) return { entries: rest, metadata };
  metadata.continue = snapshots.keep(rest.slice(limit), at);
  if (!selection.selective) metadata.remainingItemCount = rest.length - limit;
  return { entries: rest.slice(0, limit), metadata };
}

function refuseOptions(info: ResourceInfo, query: URLSearchParams): void {
  const problem = (field: string, detail: string): ApiError =>
    invalid({ group: "meta.k8s.io", kind: "ListOptions" }, "", [{ type: "Forbidden", field, detail }]);
  const match = query.get("resourceVersionMatch") ?? "";
  const version = query.get("resourceVersion") ?? "";
  if (query.get("sendInitialEvents") !== null)
    throw problem("sendInitialEvents", "sendInitialEvents is forbidden for list");
  if (match === "") {
    if (query.get("continue") && version !== "" && version !== "0")
      throw badRequest("specifying resource version is not allowed when using continue");
    return;
  }
  if (query.get("continue"))
    throw problem("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
  if (version === "")
    throw problem("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (match !== "Exact" && match !== "NotOlderThan") {
    throw invalid({ group: "meta.k8s.io", kind: "ListOptions" }, "", [
      {
        type: "NotSupported",
        field: "resourceVersionMatch",
        value: match,
        detail: 'supported values: "Exact", "NotOlderThan", ""',
      },
    ]);
  }
  if (match === "Exact" && version === "0")
    throw problem("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"');
}

function parseLimit(text: string | null): number {
  if (text === null || text === "") return 0;
  const limit = Number(text);
  if (!Number.isInteger(limit)) throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  return Math.max(0, limit);
}

/** 0 when absent. */
export function parseRevision(text: string): number {
  if (text === "") return 0;
  if (!/^\d+$/.test(text))
    throw badRequest(
      `invalid resource version ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  return Number(text);
}

/** A revision of the future is waited for three seconds, then 504. */
export async function waitForRevision(registry: Registry, revision: number): Promise<void> {
  const deadline = Date.now() + 3000;
  while (revision > registry.store.revision) {
    if (Date.now() >= deadline) {
      throw new ApiError(
        504,
        "Timeout",
        `Too large resource version: ${revision}, current: ${registry.store.revision}`,
        {
          causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
          retryAfterSeconds: 1,
        },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
