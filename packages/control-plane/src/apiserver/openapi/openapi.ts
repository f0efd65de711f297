/**
 * OpenAPI v3: the index `/openapi/v3` and one document a group-version. kubectl validates, explains and patches by them.
 *
 * Documents are built on first request and kept only as bytes; the hash in the index depends on what a document is made of,
 * so the index never builds them. `/openapi/v2` holds definitions only. Read next: `document.ts`, `operations.ts`, `swagger.ts`.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { groupVersion, type ResourceInfo } from "../resource-info.ts";
import type { HttpAnswer, Seams, ServerContext } from "../seams.ts";
import type { Schemas } from "./component-name.ts";
import { groupDocument } from "./document.ts";
import { encodeSwagger, swaggerDocument } from "./swagger.ts";

const schemasFile = new URL("../../generated/kubernetes-schemas.json", import.meta.url);
const yearSeconds = 365 * 24 * 3600;

/** The OpenAPI seam. */
export function createOpenApi(context: Pick<ServerContext, "resources" | "settings">): Pick<Seams, "openapi"> {
  /** hash → document. A hash names its content, so entries never go stale; unused ones go with the next change of resources. */
  let documents = new Map<string, Buffer>();
  let hashes = new Map<string, string>();
  let index = "";
  let generation = -1;
  let builtinSeed: string | undefined;

  function refresh(): void {
    if (context.resources.generation === generation) return;
    generation = context.resources.generation;
    builtinSeed ??= createHash("sha256").update(readFileSync(schemasFile)).digest("hex");
    hashes = new Map();
    for (const [path, infos] of byPath(context.resources.all())) hashes.set(path, hashOf(infos, builtinSeed));
    const known = new Set(hashes.values());
    documents = new Map([...documents].filter(([hash]) => known.has(hash)));
    index = JSON.stringify({
      paths: Object.fromEntries(
        [...hashes].map(([path, hash]) => [path, { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` }]),
      ),
    });
  }

  function documentAnswer(path: string, asked: string | null): HttpAnswer | undefined {
    const hash = hashes.get(path);
    if (hash === undefined) return undefined;
    let body = documents.get(hash);
    if (!body) {
      const infos = byPath(context.resources.all()).get(path) ?? [];
      body = Buffer.from(JSON.stringify(groupDocument(infos, readSchemas(), context.settings.version)));
      documents.set(hash, body);
    }
    const headers: Record<string, string> = { "content-type": "application/json", etag: `"${hash}"`, vary: "Accept" };
    if (asked === hash) {
      headers["cache-control"] = `public, immutable, max-age=${yearSeconds}`;
      headers["expires"] = new Date(Date.now() + yearSeconds * 1000).toUTCString();
    } else headers["cache-control"] = "no-cache, private";
    return { status: 200, headers, body };
  }

  function swaggerAnswer(accept: string): HttpAnswer {
    refresh();
    const asProtobuf = accept.includes("proto-openapi.spec.v2");
    const key = `v2 ${asProtobuf ? "protobuf" : "json"} ${generation}`;
    let body = documents.get(key);
    if (!body) {
      const document = swaggerDocument(context.resources.all(), readSchemas(), context.settings.version);
      body = asProtobuf ? encodeSwagger(document) : Buffer.from(JSON.stringify(document));
      documents.set(key, body);
    }
    const type = asProtobuf ? "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" : "application/json";
    return { status: 200, headers: { "content-type": type, vary: "Accept" }, body };
  }

  return {
    openapi: (question) => {
      if (question.path === "/openapi/v2") return swaggerAnswer(question.headers.accept ?? "");
      if (question.path !== "/openapi/v3" && !question.path.startsWith("/openapi/v3/")) return undefined;
      refresh();
      const path = question.path.slice("/openapi/v3/".length).replace(/\/$/, "");
      if (path === "") return { status: 200, headers: { "content-type": "application/json" }, body: index };
      const asked = question.query.get("hash");
      if (asked !== null && hashes.has(path) && asked !== hashes.get(path)) {
        return { status: 301, headers: { location: `/openapi/v3/${path}?hash=${hashes.get(path)}` }, body: "" };
      }
      return documentAnswer(path, asked);
    },
  };
}

/** Resources by `api/v1` or `apis/<group>/<version>`. */
function byPath(infos: readonly ResourceInfo[]): Map<string, ResourceInfo[]> {
  const paths = new Map<string, ResourceInfo[]>();
  for (const info of infos) {
    const path = `${info.group === "" ? "api" : "apis"}/${groupVersion(info)}`;
    const list = paths.get(path);
    if (list) list.push(info);
    else paths.set(path, [info]);
  }
  return paths;
}

function hashOf(infos: readonly ResourceInfo[], builtinSeed: string): string {
  const hash = createHash("sha256").update(builtinSeed);
  for (const info of infos) {
    hash.update(`${groupVersion(info)} ${info.plural} ${info.kind} ${info.subresources.map((s) => s.name).join()}\n`);
    if (info.custom) hash.update(JSON.stringify(info.custom.openAPIV3Schema ?? null));
  }
  return hash.digest("hex").slice(0, 32).toUpperCase();
}

/** Parsed for one document and then dropped: documents are rare, the parsed form is large. */
function readSchemas(): Schemas {
  return (JSON.parse(readFileSync(schemasFile, "utf8")) as { schemas: Schemas }).schemas;
}
