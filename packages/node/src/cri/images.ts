/** Images of a CRI runtime. There is no registry: what `nodeImages` made or somebody imported is all there is. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createHash } from "node:crypto";
import { canonicalRepository, type Image, type ResolvedImage } from "@underlay/images/registry";
import { run } from "../kubelet/shim-client.ts";
import type { CriClient } from "./cri-client.ts";
import { mountsLabel, usrLayersLabel } from "./node-images.ts";

type Config = {
  readonly Entrypoint?: string[];
  readonly Cmd?: string[];
  readonly Env?: string[];
  readonly User?: string;
  readonly WorkingDir?: string;
  readonly Labels?: Record<string, string>;
};

type Found = { readonly reference: string; readonly id: string; readonly config: Config };

export class CriImages {
  readonly #cri: CriClient;
  readonly #usrDir: string;

  /** `usrDir`: where a `/usr` with an image's layers over it is mounted. */
  constructor(cri: CriClient, usrDir: string) {
    this.#cri = cri;
    this.#usrDir = usrDir;
  }

  async find(reference: string): Promise<ResolvedImage> {
    const found = await this.#look(reference);
    if (!found) return { ok: false, message: await this.#notFound(reference) };
    return {
      ok: true,
      reference: found.reference,
      imageId: found.id,
      image: imageOf(canonicalRepository(reference), found.config),
    };
  }

  /** What a built-in image's containers get mounted from the node. */
  async mountsOf(reference: string): Promise<{ source: string; target: string }[]> {
    const labels = (await this.#look(reference))?.config.Labels ?? {};
    const targets = (labels[mountsLabel] ?? "").split(",").filter(Boolean);
    const layers = labels[usrLayersLabel];
    const usr = layers && targets.includes("/usr") ? await this.#layeredUsr(layers) : "/usr";
    return targets.map((target) => ({ source: target === "/usr" ? usr : target, target }));
  }

  /** The reference itself, or for a built-in image (there is one build of each) whatever tag is there. */
  async #look(reference: string): Promise<Found | undefined> {
    const exact = await this.#status(reference);
    if (exact) return exact;
    if (reference.includes("@")) return undefined;
    const found = await this.#status(`${canonicalRepository(reference)}:latest`);
    const builtIn =
      found?.config.Labels?.[mountsLabel] !== undefined || canonicalRepository(reference) === "registry.k8s.io/pause";
    return builtIn ? found : undefined;
  }

  async #status(reference: string): Promise<Found | undefined> {
    const { image, info } = await this.#cri.call("ImageStatus", { image: { image: reference }, verbose: true });
    if (!image) return undefined;
    const details = JSON.parse(info["info"] ?? "{}") as { imageSpec?: { config?: Config } };
    return { reference, id: image.id, config: details.imageSpec?.config ?? {} };
  }

  async #notFound(reference: string): Promise<string> {
    const { images = [] } = await this.#cri.call("ListImages", {});
    const names = images.flatMap(({ repoTags = [] }) => repoTags).sort();
    return `failed to pull and unpack image "${reference}": not found: there is no registry here, and containerd on this node has only: ${names.join(", ")}`;
  }

  async #layeredUsr(layers: string): Promise<string> {
    const target = `${this.#usrDir}/${createHash("sha256").update(layers).digest("hex").slice(0, 12)}`;
    if (existsSync(`${target}/bin`)) return target;
    await mkdir(target, { recursive: true });
    await run("mount", ["-t", "overlay", "-o", `ro,lowerdir=${layers}:/usr`, "overlay", target]);
    return target;
  }
}

function imageOf(repository: string, config: Config): Image {
  const [uid, gid] = (config.User ?? "").split(":");
  return {
    repository,
    entrypoint: config.Entrypoint ?? [],
    cmd: config.Cmd ?? [],
    env: Object.fromEntries(
      (config.Env ?? []).map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
    ),
    ...(uid && /^\d+$/.test(uid) ? { user: { uid: Number(uid), gid: Number(gid ?? 0) || 0 } } : {}),
    workingDir: config.WorkingDir || "/",
    usrLayers: [],
    directories: [],
  };
}
