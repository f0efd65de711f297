/**
 * The built-in images, by name. A fresh machine has no image store and no registry to pull from, so the node's host-sandbox
 * runtime knows these workloads itself: an image is a program of this repository (or of a Debian package laid out under
 * `.build/images/<layer>`), seen in a pod under `/opt/underlay`. Unknown names are refused with the list of those that exist.
 *
 * Never here: how a sandbox is made (`@underlay/node`). Read next: `catalogue.ts`, then the folder of the image.
 */
import { canonicalSystemRegistry, catalogue, systemRegistry } from "./catalogue.ts";

export type Image = {
  /** Canonical name without tag: `registry/path/name`. */
  readonly repository: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Numeric ids the process runs as when the pod does not say; 0 when absent. */
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly workingDir: string;
  /**
   * Directories (absolute, as seen inside an instance) laid over the sandbox's read-only `/usr`, upmost first:
   * each is the `usr` folder of an unpacked Debian package set.
   */
  readonly usrLayers: readonly string[];
  /** Directories made writable-by-`user` in the container's own root before it starts, e.g. `/var/lib/mysql`. */
  readonly directories: readonly string[];
};

export type ResolvedImage =
  | { readonly ok: true; readonly image: Image; readonly reference: string; readonly imageId: string }
  | { readonly ok: false; readonly message: string };

/** Where the repository and its pinned Node stand inside an instance and inside every pod. */
export const repositoryInPod = "/opt/underlay";
export const nodeInPod = `${repositoryInPod}/node_modules/node-linux-${process.arch === "arm64" ? "arm64" : "x64"}/bin/node`;

/**
 * The image a reference names. Tags and digests select nothing: one build of each image exists.
 * `nginx`, `docker.io/nginx:1.2` and `docker.io/library/nginx@sha256:…` are the same name, as for a container runtime.
 */
export function resolveImage(reference: string): ResolvedImage {
  const repository = canonicalRepository(reference).replace(systemRegistry, canonicalSystemRegistry);
  const image = catalogue.find((candidate) => candidate.repository === repository);
  if (image) return { ok: true, image, reference, imageId: `underlay://${repository}` };
  const known = catalogue.map((candidate) => candidate.repository).sort();
  return {
    ok: false,
    message: `failed to pull and unpack image "${reference}": not found: the host-sandbox runtime has only built-in images: ${known.join(", ")}`,
  };
}

/** `registry/path/name` of a reference, with the defaults of Docker Hub. */
export function canonicalRepository(reference: string): string {
  const withoutDigest = reference.split("@")[0] ?? reference;
  const slash = withoutDigest.lastIndexOf("/");
  const colon = withoutDigest.indexOf(":", slash + 1);
  const name = colon === -1 ? withoutDigest : withoutDigest.slice(0, colon);
  const first = name.split("/")[0] ?? "";
  if (!name.includes("/")) return `docker.io/library/${name}`;
  if (first.includes(".") || first.includes(":") || first === "localhost") return name;
  return `docker.io/${name}`;
}
