/**
 * `dist/aws-node/`: the programs of aws-node, one file each, and `image.tar`, an OCI image of them from nothing but this machine's
 * files: the programs, the pinned Node, koffi, luajit, iptables, and the libraries those need as `ldd` tells. Run by `tools/make-dist`.
 *
 * In the image the programs stand where the repository stands in a pod (`/opt/underlay`), so that the DaemonSet's probes fit both.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  globSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { layer, ociArchive } from "@underlay/node/cri/oci-archive";
import { folderEntries, type TarEntry } from "@underlay/node/cri/tar";

const repo = resolve(import.meta.dirname, "..");
const out = resolve(process.argv[2] ?? join(repo, "dist"), "aws-node");
const architecture = process.arch === "arm64" ? "arm64" : "x64";
const nodeInImage = `/opt/underlay/node_modules/node-linux-${architecture}/bin/node`;
const imageName = "underlay.test/aws-node:dist";

/** File in dist → the built program. */
const programs = {
  "aws-cni": ".build/lua/aws-cni.lua",
  "aws-node.mjs": ".build/programs/aws-node.mjs",
  "aws-node-init.mjs": ".build/programs/aws-node-init.mjs",
};

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
for (const [name, from] of Object.entries(programs)) cpSync(join(repo, from), join(out, name));
const plugin = readFileSync(join(out, "aws-cni"), "utf8").replace(/^#!.*\n/, "");
writeFileSync(join(out, "aws-cni"), `#!/usr/bin/luajit\n${plugin}`);
chmodSync(join(out, "aws-cni"), 0o755);
// What the init container is for, and then the agent: upstream's names for the same two steps.
writeFileSync(
  join(out, "entrypoint.sh"),
  `#!/bin/sh\nexec ${nodeInImage} /opt/underlay/.build/programs/"\${1:-aws-node}".mjs\n`,
  { mode: 0o755 },
);

const system = [
  "/usr/bin/luajit",
  "/usr/sbin/xtables-nft-multi",
  ...globSync("/usr/lib/*/libnftables.so.1"),
  "/bin/busybox",
];
const koffi = globSync(`node_modules/{koffi,@koromix/koffi-linux-${architecture}}`, { cwd: repo });
const native = globSync(`node_modules/{koffi,@koromix/koffi-linux-${architecture}}/**/linux_${architecture}/*.node`, {
  cwd: repo,
}).map((file) => join(repo, file));
const node = realpathSync(join(repo, `node_modules/node-linux-${architecture}/bin/node`));
const libraries = new Set([...system, ...native, node].flatMap(neededBy));

const tree = new Map<string, TarEntry>();
const put = (
  path: string,
  entry: { mode?: number } & ({ type: "file"; data: Buffer } | { type: "link"; to: string }),
) => {
  for (let folder = dirname(path); folder !== "/"; folder = dirname(folder))
    tree.set(folder, { type: "directory", path: folder.slice(1) });
  tree.set(path, { ...entry, path: path.slice(1) });
};
const putFile = (path: string, from: string) =>
  put(path, { type: "file", data: readFileSync(from), mode: statSync(from).mode & 0o777 });

for (const name of ["bin", "sbin", "lib", "lib64"]) put(`/${name}`, { type: "link", to: `usr/${name}` });
for (const file of [...system, ...libraries]) putFile(file.replace(/^\/(bin|sbin|lib|lib64)\//, "/usr/$1/"), file);
for (const file of globSync("/usr/lib/*/xtables/*.so")) putFile(file, file);
for (const name of [
  "iptables",
  "iptables-save",
  "iptables-restore",
  "ip6tables",
  "ip6tables-save",
  "ip6tables-restore",
])
  for (const suffix of ["", "-nft"])
    put(`/usr/sbin/${nftName(name, suffix)}`, { type: "link", to: "xtables-nft-multi" });
put("/usr/bin/sh", { type: "link", to: "busybox" });
for (const file of globSync("/usr/lib/cni/{loopback,portmap,bandwidth,host-local,tuning}")) putFile(file, file);
putFile("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt");
putFile(nodeInImage, node);
for (const [name, at] of Object.entries(programs))
  if (name !== "aws-cni") putFile(`/opt/underlay/${at}`, join(out, name));
putFile("/opt/underlay/.build/lua/aws-cni.lua", join(repo, programs["aws-cni"]));
putFile("/entrypoint.sh", join(out, "entrypoint.sh"));
for (const folder of koffi)
  for (const entry of folderEntries(join(repo, folder)))
    if (
      entry.type === "file" &&
      !/\.(md|c|cc|h|hh|d\.ts)$/.test(entry.path) &&
      !/\/(?!linux_)[a-z]+_[a-z0-9]+\/koffi\.node$/.test(entry.path)
    )
      put(`/opt/underlay/${folder}/${entry.path}`, {
        type: "file",
        data: entry.data,
        ...(entry.mode === undefined ? {} : { mode: entry.mode }),
      });
for (const folder of ["proc", "sys", "dev", "tmp", "run", "var"])
  tree.set(`/${folder}`, { type: "directory", path: folder });
put("/var/run", { type: "link", to: "../run" });

const config = {
  Entrypoint: ["/entrypoint.sh"],
  Env: [
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/underlay-ca.crt",
    "NODE_OPTIONS=--max-semi-space-size=1 --disable-warning=ExperimentalWarning",
  ],
  WorkingDir: "/",
};
const entries = [...tree].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
const archive = ociArchive(
  [{ names: [imageName], layers: [layer(entries)], config }],
  architecture === "x64" ? "amd64" : "arm64",
);
writeFileSync(join(out, "image.tar"), archive);
console.log(
  `${out}: ${Object.keys(programs).join(", ")}, entrypoint.sh, image.tar (${imageName}, ${Math.round(archive.length / 1e6)} MB, ${entries.length} files)`,
);

/** Every library a program is linked with, by the names it looks for. */
function neededBy(file: string): string[] {
  const said = execFileSync("sh", ["-c", 'ldd "$1" 2>/dev/null || true', "sh", file], { encoding: "utf8" });
  const found = [...said.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
  // A link's own name stands for the file it leads to.
  return found.filter((path) => lstatSync(path).isFile() || readlinkSync(path) !== "");
}

function nftName(name: string, suffix: string): string {
  const [family = "", verb] = name.split("-");
  return `${family}${suffix}${verb ? `-${verb}` : ""}`;
}
