/**
 * An OCI image layout in one tar, from nothing but local files: what `ctr images import` and `docker load` read. No registry is asked.
 * Images that share a layer share its blob.
 */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { tar, type TarEntry } from "./tar.ts";

export type OciImage = {
  /** Full references, e.g. `registry.k8s.io/pause:3.9`; the same image may have several. */
  readonly names: readonly string[];
  readonly layers: readonly Layer[];
  readonly config: {
    readonly Entrypoint?: readonly string[];
    readonly Cmd?: readonly string[];
    readonly Env?: readonly string[];
    readonly User?: string;
    readonly WorkingDir?: string;
    readonly StopSignal?: string;
    readonly Labels?: Readonly<Record<string, string>>;
  };
};

export type Layer = { readonly digest: string; readonly diffId: string; readonly blob: Buffer };

/** One layer; made once, used by as many images as wanted. */
export function layer(entries: readonly TarEntry[]): Layer {
  const plain = tar(entries);
  const blob = gzipSync(plain, { level: 1 });
  return { diffId: digestOf(plain), digest: digestOf(blob), blob };
}

export function ociArchive(images: readonly OciImage[], architecture: "amd64" | "arm64"): Buffer {
  const blobs = new Map<string, Buffer>();
  const add = (data: Buffer) => {
    const digest = digestOf(data);
    blobs.set(digest, data);
    return { digest, size: data.length };
  };
  const manifests = images.flatMap(({ names, layers, config }) => {
    for (const one of layers) blobs.set(one.digest, one.blob);
    const described = add(
      json({
        architecture,
        os: "linux",
        config,
        rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
        history: layers.map(() => ({ created_by: "underlay" })),
      }),
    );
    const manifest = add(
      json({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: { mediaType: "application/vnd.oci.image.config.v1+json", ...described },
        layers: layers.map(({ digest, blob }) => ({
          mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
          digest,
          size: blob.length,
        })),
      }),
    );
    return names.map((name) => ({
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      ...manifest,
      annotations: { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
      platform: { architecture, os: "linux" },
    }));
  });
  const file = (path: string, data: Buffer): TarEntry => ({ type: "file", path, data });
  return tar([
    file("oci-layout", json({ imageLayoutVersion: "1.0.0" })),
    file("index.json", json({ schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests })),
    { type: "directory", path: "blobs" },
    { type: "directory", path: "blobs/sha256" },
    ...[...blobs].map(([digest, data]) => file(`blobs/sha256/${digest.slice("sha256:".length)}`, data)),
  ]);
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const digestOf = (data: Buffer): string => `sha256:${createHash("sha256").update(data).digest("hex")}`;
