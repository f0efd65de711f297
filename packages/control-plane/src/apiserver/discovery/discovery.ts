/**
 * Discovery: `/api`, `/apis`, `/api/v1`, `/apis/G`, `/apis/G/V`; the first two also aggregated (v2, v2beta1) by Accept.
 *
 * Answers are made from the resource table when it changes and kept serialised. Never here: schemas (openapi/), versions
 * and health (routes). Read next: `group-lists.ts`, `aggregated.ts`.
 */
import type { HttpAnswer, HttpQuestion, ResourceTable, Seams, ServerContext } from "../seams.ts";
import { aggregatedDiscovery } from "./aggregated.ts";
import { apiGroupList, apiResourceList, apiVersions, groupsOf, groupOf } from "./group-lists.ts";

type Pages = Map<string, string>;

/** The discovery seam. */
export function createDiscovery(context: Pick<ServerContext, "resources">): Pick<Seams, "discovery"> {
  let generation = -1;
  let pages: Pages = new Map();
  return {
    discovery: (question) => {
      if (!question.path.startsWith("/api")) return undefined;
      if (context.resources.generation !== generation) {
        generation = context.resources.generation;
        pages = new Map();
      }
      return answer(question, context.resources, pages);
    },
  };
}

function answer(question: HttpQuestion, resources: ResourceTable, pages: Pages): HttpAnswer | undefined {
  const path = question.path.replace(/\/$/, "");
  if (path === "/api" || path === "/apis") {
    const version = aggregatedVersion(question.headers.accept ?? "");
    if (version !== undefined) {
      const key = `${path} ${version}`;
      return page(pages, key, `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`, () =>
        aggregatedDiscovery(resources.all(), path === "/api", version),
      );
    }
    return page(pages, path, "application/json", () =>
      path === "/api" ? apiVersions() : apiGroupList(groupsOf(resources.all())),
    );
  }
  const [, root, group, version, ...rest] = path.split("/");
  if (rest.length > 0) return undefined;
  if (root === "api" && version === undefined) return resourcePage(pages, resources, "", group ?? "");
  if (root !== "apis" || group === undefined) return undefined;
  if (version !== undefined) return resourcePage(pages, resources, group, version);
  const found = groupsOf(resources.all()).find((candidate) => candidate.name === group);
  return found && page(pages, path, "application/json", () => groupOf(found, true));
}

function resourcePage(pages: Pages, resources: ResourceTable, group: string, version: string): HttpAnswer | undefined {
  const infos = resources.all().filter((info) => info.group === group && info.version === version);
  if (infos.length === 0) return undefined;
  return page(pages, `${group}/${version}`, "application/json", () => apiResourceList(infos));
}

function page(pages: Pages, key: string, contentType: string, make: () => object): HttpAnswer {
  let body = pages.get(key);
  if (body === undefined) pages.set(key, (body = JSON.stringify(make())));
  return { status: 200, headers: { "content-type": contentType, vary: "Accept" }, body };
}

/** The first aggregated media type the client lists, as it prefers what it names first. */
function aggregatedVersion(accept: string): "v2" | "v2beta1" | undefined {
  for (const part of accept.split(",")) {
    if (!part.includes("as=APIGroupDiscoveryList") || !part.includes("g=apidiscovery.k8s.io")) continue;
    const version = /v=(v2beta1|v2)(?:;|$|\s)/.exec(part)?.[1];
    if (part.trim().startsWith("application/json") && (version === "v2" || version === "v2beta1")) return version;
  }
  return undefined;
}
