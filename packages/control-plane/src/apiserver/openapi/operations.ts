/** Paths and operations of one resource, as far as clients read them: kinds, verbs, query parameters, patch content types. Pure. */
import { groupVersion, type ResourceInfo, type SubresourceInfo } from "../resource-info.ts";
import { componentName, type Schemas } from "./component-name.ts";

type Operation = Record<string, unknown>;
type Gvk = { group: string; version: string; kind: string };

const reference = "#/components/schemas/";
const query = (name: string, type = "string") => ({ name, in: "query", schema: { type, uniqueItems: true } });
const path = (name: string) => ({ name, in: "path", required: true, schema: { type: "string", uniqueItems: true } });
const pretty = query("pretty");
const writeParameters = [query("dryRun"), query("fieldManager"), query("fieldValidation")];
const patchParameters = [...writeParameters, query("force", "boolean")];
const listParameters = [
  query("allowWatchBookmarks", "boolean"),
  query("continue"),
  query("fieldSelector"),
  query("labelSelector"),
  query("limit", "integer"),
  query("resourceVersion"),
  query("resourceVersionMatch"),
  query("sendInitialEvents", "boolean"),
  query("timeoutSeconds", "integer"),
  query("watch", "boolean"),
];
const deleteParameters = [
  query("dryRun"),
  query("gracePeriodSeconds", "integer"),
  query("orphanDependents", "boolean"),
  query("propagationPolicy"),
];

/** `path → path item` of a resource and its subresources. */
export function pathsOf(info: ResourceInfo, schemas: Schemas): Record<string, object> {
  const root = `/${info.group === "" ? "api" : "apis"}/${groupVersion(info)}`;
  const collection = info.namespaced ? `${root}/namespaces/{namespace}/${info.plural}` : `${root}/${info.plural}`;
  const gvk: Gvk = { group: info.group, version: info.version, kind: info.kind };
  const builder = new Operations(info, schemas);
  const paths: Record<string, object> = {};
  const scope = info.namespaced ? [path("namespace"), pretty] : [pretty];
  paths[collection] = { ...builder.collection(gvk), parameters: scope };
  if (info.verbs.includes("get")) {
    paths[`${collection}/{name}`] = { ...builder.item(gvk), parameters: [path("name"), ...scope] };
  }
  if (info.namespaced && info.verbs.includes("list")) {
    paths[`${root}/${info.plural}`] = { get: builder.list(gvk), parameters: [pretty] };
  }
  for (const sub of info.subresources) {
    paths[`${collection}/{name}/${sub.name}`] = { ...builder.subresource(sub), parameters: [path("name"), ...scope] };
  }
  return paths;
}

class Operations {
  readonly #info: ResourceInfo;
  readonly #component: string;
  readonly #list: string;

  constructor(info: ResourceInfo, schemas: Schemas) {
    this.#info = info;
    this.#component = componentName(info);
    const list = info.custom ? `${this.#component}List` : this.#component.replace(/[^.]+$/, info.listKind);
    this.#list = schemas[list] ? list : this.#component;
  }

  collection(gvk: Gvk): Record<string, Operation> {
    const verbs: readonly string[] = this.#info.verbs;
    return {
      ...(verbs.includes("list") ? { get: this.list(gvk) } : {}),
      ...(verbs.includes("create") ? { post: this.#write("post", gvk, writeParameters) } : {}),
      ...(verbs.includes("deletecollection")
        ? { delete: this.#operation("deletecollection", gvk, [...listParameters, ...deleteParameters]) }
        : {}),
    };
  }

  list(gvk: Gvk): Operation {
    return { ...this.#operation("list", gvk, listParameters), responses: this.#answers(this.#list) };
  }

  item(gvk: Gvk): Record<string, Operation> {
    const verbs: readonly string[] = this.#info.verbs;
    return {
      get: this.#operation("get", gvk, []),
      ...(verbs.includes("update") ? { put: this.#write("put", gvk, writeParameters) } : {}),
      ...(verbs.includes("patch") ? { patch: this.#patch(gvk) } : {}),
      ...(verbs.includes("delete") ? { delete: this.#operation("delete", gvk, deleteParameters) } : {}),
    };
  }

  subresource(sub: SubresourceInfo): Record<string, Operation> {
    const gvk = { group: sub.group ?? this.#info.group, version: sub.version ?? this.#info.version, kind: sub.kind };
    const verbs = sub.verbs;
    return {
      ...(verbs.includes("get") ? { get: this.#operation("get", gvk, []) } : {}),
      ...(verbs.includes("create") ? { post: this.#write("post", gvk, writeParameters) } : {}),
      ...(verbs.includes("update") ? { put: this.#write("put", gvk, writeParameters) } : {}),
      ...(verbs.includes("patch") ? { patch: this.#patch(gvk) } : {}),
    };
  }

  #patch(gvk: Gvk): Operation {
    const types = ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
    if (!this.#info.custom) types.push("application/strategic-merge-patch+json");
    const schema = { $ref: `${reference}io.k8s.apimachinery.pkg.apis.meta.v1.Patch` };
    return {
      ...this.#operation("patch", gvk, patchParameters),
      requestBody: { required: true, content: Object.fromEntries(types.map((type) => [type, { schema }])) },
    };
  }

  #write(action: string, gvk: Gvk, parameters: readonly object[]): Operation {
    return {
      ...this.#operation(action, gvk, parameters),
      requestBody: { required: true, content: { "*/*": { schema: { $ref: reference + this.#component } } } },
    };
  }

  #operation(action: string, gvk: Gvk, parameters: readonly object[]): Operation {
    return {
      parameters,
      responses: this.#answers(this.#component),
      "x-kubernetes-action": action,
      "x-kubernetes-group-version-kind": gvk,
    };
  }

  #answers(component: string): object {
    return {
      200: { description: "OK", content: { "application/json": { schema: { $ref: reference + component } } } },
      401: { description: "Unauthorized" },
    };
  }
}
