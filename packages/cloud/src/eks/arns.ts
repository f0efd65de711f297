/** ARNs of EKS, and the checks of names. */
import { randomUUID } from "node:crypto";
import { ApiError } from "../protocol/api-error.ts";
import type { World } from "../store/kinds.ts";
import type { Cluster } from "./clusters.ts";
import type { Nodegroup } from "./nodegroups.ts";

export function clusterArn(world: World, name: string): string {
  return `arn:aws:eks:${world.region}:${world.accountId}:cluster/${name}`;
}

/** `…:<kind>/<cluster>/<name>/<uuid>`. */
export function partArn(
  world: World,
  kind: "nodegroup" | "addon" | "access-entry",
  cluster: string,
  name: string,
): string {
  return `arn:aws:eks:${world.region}:${world.accountId}:${kind}/${cluster}/${name}/${randomUUID()}`;
}

export function findCluster(world: World, name: string): Cluster {
  const cluster = world.store.get("cluster", name);
  if (cluster === undefined) throw new ApiError("ResourceNotFoundException", `No cluster found for name: ${name}.`);
  return cluster;
}

export function findNodegroup(world: World, clusterName: string, name: string): Nodegroup {
  findCluster(world, clusterName);
  const group = world.store.get("nodegroup", `${clusterName}/${name}`);
  if (group === undefined) throw new ApiError("ResourceNotFoundException", `No node group found for name: ${name}.`);
  return group;
}

export function requireName(name: string, what: string, most = 100): void {
  if (!/^[0-9A-Za-z][A-Za-z0-9_-]*$/.test(name) || name.length > most)
    throw new ApiError(
      "InvalidParameterException",
      `The ${what} name '${name}' is not valid: it must start with a letter or digit and hold only letters, digits, hyphens and underscores`,
    );
}

/** EKS pages: names in order, `nextToken` the position. */
export function pageOfNames<T>(
  items: readonly T[],
  input: { maxResults?: number | undefined; nextToken?: string | undefined },
): { page: T[]; nextToken?: string } {
  const { maxResults = 100, nextToken } = input;
  if (maxResults < 1 || maxResults > 100)
    throw new ApiError("InvalidParameterException", "maxResults must be between 1 and 100");
  const start = nextToken === undefined ? 0 : Number(Buffer.from(nextToken, "base64url").toString("utf8"));
  if (!Number.isInteger(start)) throw new ApiError("InvalidParameterException", "The specified nextToken is not valid");
  const page = items.slice(start, start + maxResults);
  const end = start + page.length;
  return end < items.length ? { page, nextToken: Buffer.from(String(end)).toString("base64url") } : { page };
}
