/**
 * The file system of an instance, and the skeleton that pods' containers start from.
 *
 * Read-only `/usr` of the machine, links into it, an `/etc` written here (a few files of the machine's that programs cannot do
 * without, e.g. /etc/alternatives, are copied), own /var /run /tmp /opt /home /root, and fresh /proc /sys /dev.
 */
import { C, check, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC, MS_SHARED } from "@underlay/lua/libc";
import { exists, findFile, findLink, listDirectory, makeDirectories, writeFile } from "@underlay/lua/files";
import { bind, enterRoot, linkUsr, mountDev, mountProc, mountSys, mountType, propagation } from "./mounts.ts";

export type Boot = {
  instanceId: string;
  hostname: string;
  rootDir: string;
  repoDir: string;
  caCertFile: string;
  nodeBinary: string;
  kubelet: { argv: string[]; nodeOptions?: string };
  resolvConf: string;
  /** Name of the cgroup a container runtime of the instance may make for itself. */
  cgroup?: string;
};

/** Where a container's read-only lower layer stands inside an instance. */
export const skeletonDir = "/var/lib/underlay/skeleton";

export function buildInstanceRoot(boot: Boot): void {
  const root = boot.rootDir;
  C.umask(0x12); // 022
  propagation("/", MS_REC + MS_PRIVATE);
  makeDirectories(root);
  bind(root, root);
  for (const name of [
    "usr",
    "proc",
    "sys",
    "dev",
    "run",
    "opt/underlay",
    "opt/cni/bin",
    "home",
    "mnt",
    "media",
    "srv",
    "etc/cni/net.d",
    "etc/kubernetes/pki",
  ])
    makeDirectories(`${root}/${name}`);
  for (const name of [
    "lib/kubelet/pods",
    "lib/cni",
    "log/pods",
    "log/containers",
    "cache/node-compile",
    "spool",
    `lib/underlay`,
  ])
    makeDirectories(`${root}/var/${name}`);
  makeCommonFolders(root);
  linkUsr(root);
  writeEtc(`${root}/etc`, boot);
  makeSkeleton(`${root}${skeletonDir}`, boot);
  linkReferencePlugins(`${root}/opt/cni/bin`);

  bind("/usr", `${root}/usr`, { readOnly: true });
  bind(boot.repoDir, `${root}/opt/underlay`, { readOnly: true });
  mountType("tmpfs", `${root}/run`, MS_NOSUID + MS_NODEV, "mode=755");
  for (const name of ["netns", "underlay/pods", "lock"]) makeDirectories(`${root}/run/${name}`);
  mountDev(`${root}/dev`);
  mountProc(`${root}/proc`);
  mountSys(`${root}/sys`);
  enterRoot(root);
  // Shared, so that a mount made on the node reaches containers that ask for HostToContainer.
  propagation("/", MS_REC + MS_SHARED);
}

/** The lower layer of every container: folders, links and /etc, without anything of the node itself. */
function makeSkeleton(skeleton: string, boot: Boot): void {
  for (const name of [
    "usr",
    "proc",
    "sys",
    "dev",
    "run",
    "opt/underlay",
    "home",
    "mnt",
    "media",
    "srv",
    "etc",
    "var/lib",
    "var/log",
    "var/cache",
    "var/spool",
    "run/lock",
  ])
    makeDirectories(`${skeleton}/${name}`);
  makeCommonFolders(skeleton);
  linkUsr(skeleton);
  writeEtc(`${skeleton}/etc`, boot);
}

function makeCommonFolders(root: string): void {
  makeDirectories(`${root}/root`);
  C.chmod(`${root}/root`, 0x1c0); // 0700
  for (const name of ["tmp", "var/tmp"]) {
    makeDirectories(`${root}/${name}`);
    C.chmod(`${root}/${name}`, 0x3ff); // 1777
  }
  // Relative, so that a mount target below it stays inside a container's root while that is being built.
  C.symlink("../run", `${root}/var/run`);
  C.symlink("../run/lock", `${root}/var/lock`);
}

const copiedFiles = [
  "nsswitch.conf",
  "services",
  "protocols",
  "rpc",
  "ethertypes",
  "host.conf",
  "gai.conf",
  "ld.so.cache",
  "ld.so.conf",
  "localtime",
  "timezone",
  "mime.types",
  "bash.bashrc",
  "profile",
  "inputrc",
  "debian_version",
  "issue",
  "shells",
  "login.defs",
  "ssl/openssl.cnf",
  "xattr.conf",
];
const copiedFolders = [
  "alternatives",
  "ld.so.conf.d",
  "iproute2",
  "mysql",
  "mysql/conf.d",
  "mysql/mariadb.conf.d",
  "postgresql-common",
  "terminfo",
  "fonts",
  "fonts/conf.d",
];

function writeEtc(etc: string, boot: Boot): void {
  for (const name of copiedFiles) copyFile(`/etc/${name}`, `${etc}/${name}`);
  for (const folder of copiedFolders)
    for (const name of listDirectory(`/etc/${folder}`)) copyFile(`/etc/${folder}/${name}`, `${etc}/${folder}/${name}`);
  writeFile(`${etc}/passwd`, passwd);
  writeFile(`${etc}/group`, group);
  writeFile(`${etc}/hostname`, `${boot.hostname}\n`);
  writeFile(`${etc}/hosts`, `127.0.0.1 localhost localhost.localdomain\n::1 localhost6 localhost6.localdomain6\n`);
  writeFile(`${etc}/resolv.conf`, boot.resolvConf);
  C.unlink(`${etc}/os-release`);
  C.symlink("../usr/lib/os-release", `${etc}/os-release`);
  C.symlink("/proc/self/mounts", `${etc}/mtab`);
  const ca = findFile(boot.caCertFile) ?? "";
  makeDirectories(`${etc}/ssl/certs`);
  writeFile(`${etc}/ssl/certs/underlay-ca.crt`, ca);
  writeFile(`${etc}/ssl/certs/ca-certificates.crt`, `${findFile("/etc/ssl/certs/ca-certificates.crt") ?? ""}${ca}`);
  C.symlink("certs/ca-certificates.crt", `${etc}/ssl/cert.pem`);
}

/** Copies a file or a link; folders and what does not exist are left out. */
function copyFile(from: string, to: string): void {
  const [parent] = string.match(to, "^(.+)/[^/]+$");
  const link = findLink(from);
  if (link !== undefined) {
    makeDirectories(parent!);
    C.unlink(to);
    C.symlink(link, to);
    return;
  }
  if (!exists(from) || exists(`${from}/.`)) return;
  makeDirectories(parent!);
  writeFile(to, findFile(from) ?? "");
}

/** Debian's containernetworking-plugins, where present, appear as the node's own plugins. */
function linkReferencePlugins(folder: string): void {
  for (const name of listDirectory("/usr/lib/cni")) C.symlink(`/usr/lib/cni/${name}`, `${folder}/${name}`);
}

const passwd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
postgres:x:70:70:postgres:/var/lib/postgresql:/bin/sh
mysql:x:999:999:mysql:/var/lib/mysql:/bin/sh
appuser:x:1000:1000:appuser:/home:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`;
const group = `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
www-data:x:33:
shadow:x:42:
postgres:x:70:
mysql:x:999:
appuser:x:1000:
nogroup:x:65534:
`;
