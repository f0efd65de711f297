/**
 * The images a containerd node has from its first boot: those of the catalogue (`@underlay/images`) for its region, and the sandbox's
 * pause image, as one OCI archive made on the node from its own files.
 *
 * A built-in image's layer holds folders, links and /etc; the machine's `/usr` and the repository, too big for layers, are mounted into
 * its containers read-only (label `dev.underlay.mounts`, honoured by `cri-sandbox.ts`). pause and busybox are whole: one static program.
 */
import { existsSync, readFileSync } from "node:fs";
import { catalogue } from "@underlay/images/catalogue";
import type { Image } from "@underlay/images/registry";
import { layer, ociArchive, type Layer, type OciImage } from "./oci-archive.ts";
import { folderEntries, type TarEntry } from "./tar.ts";

/** A built-in image names here what its containers get mounted, read-only: `/usr` with these layers over it, and /opt/underlay. */
export const mountsLabel = "dev.underlay.mounts";
export const usrLayersLabel = "dev.underlay.usr-layers";
export const pauseImage = "registry.k8s.io/pause:3.9";
const busybox = "/usr/bin/busybox";

export function nodeImages(region: string, skeleton: string): Buffer {
  const base = layer(folderEntries(skeleton));
  const wanted = catalogue.filter(
    ({ repository }) =>
      (!repository.startsWith("602401143452.") || repository.includes(`.${region}.`)) &&
      !staticImages.includes(repository),
  );
  const architecture = process.arch === "arm64" ? "arm64" : "amd64";
  return ociArchive([...busyboxImages(), ...wanted.map((image) => builtIn(image, base))], architecture);
}

const staticImages = ["registry.k8s.io/pause", "docker.io/library/busybox"];

function busyboxImages(): OciImage[] {
  if (!existsSync(busybox))
    throw new Error(`Cannot build the pause image: ${busybox} is missing; install the Debian package busybox-static`);
  const data = readFileSync(busybox);
  const program = layer([
    { type: "directory", path: "bin" },
    { type: "file", path: "bin/busybox", mode: 0o755, data },
  ]);
  const applets = [
    "sh",
    "ash",
    "cat",
    "ls",
    "echo",
    "sleep",
    "wget",
    "nc",
    "ping",
    "ip",
    "httpd",
    "nslookup",
    "ps",
    "kill",
    "id",
    "env",
    "grep",
    "true",
    "false",
    "date",
    "test",
    "mkdir",
    "rm",
    "touch",
    "head",
    "tail",
    "sed",
    "awk",
    "hostname",
    "mount",
    "df",
    "stat",
    "seq",
    "tr",
    "wc",
    "dd",
    "traceroute",
  ];
  const links = layer([
    ...applets.map((name): TarEntry => ({ type: "link", path: `bin/${name}`, to: "busybox" })),
    ...["etc", "tmp", "var", "root", "home", "dev", "proc", "sys"].map((path): TarEntry => ({
      type: "directory",
      path,
      ...(path === "tmp" ? { mode: 0o1777 } : {}),
    })),
    {
      type: "file",
      path: "etc/passwd",
      data: Buffer.from("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    },
    { type: "file", path: "etc/group", data: Buffer.from("root:x:0:\nnogroup:x:65534:\n") },
  ]);
  return [
    // Nothing to clean up, so it is ended at once: busybox as pid 1 would not hear a SIGTERM.
    {
      names: [pauseImage, "registry.k8s.io/pause:latest"],
      layers: [program, links],
      config: { Entrypoint: ["/bin/busybox", "sleep", "2147483647"], StopSignal: "SIGKILL", Env: ["PATH=/bin"] },
    },
    {
      names: ["docker.io/library/busybox:latest"],
      layers: [program, links],
      config: { Cmd: ["sh"], Env: ["PATH=/bin"] },
    },
  ];
}

function builtIn(image: Image, base: Layer): OciImage {
  const owned = image.directories.map((path): TarEntry => ({
    type: "directory",
    path: path.slice(1),
    uid: image.user?.uid ?? 0,
    gid: image.user?.gid ?? 0,
  }));
  return {
    names: [`${image.repository}:latest`],
    layers: owned.length > 0 ? [base, layer(owned)] : [base],
    config: {
      ...(image.entrypoint.length > 0 ? { Entrypoint: image.entrypoint } : {}),
      ...(image.cmd.length > 0 ? { Cmd: image.cmd } : {}),
      Env: [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ...Object.entries(image.env).map(([key, value]) => `${key}=${value}`),
      ],
      ...(image.user ? { User: `${image.user.uid}:${image.user.gid}` } : {}),
      WorkingDir: image.workingDir,
      Labels: {
        [mountsLabel]: "/usr,/opt/underlay",
        ...(image.usrLayers.length > 0 ? { [usrLayersLabel]: image.usrLayers.join(":") } : {}),
      },
    },
  };
}
