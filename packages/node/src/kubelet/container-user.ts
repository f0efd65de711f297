/** Who a container runs as: user, groups and capabilities from security contexts and the image. Pure. */
import type { Container, Pod } from "@underlay/kube/objects";
import type { ContainerUser } from "./shim-client.ts";

/** Capability names by number (linux/capability.h). */
const names = [
  "CHOWN",
  "DAC_OVERRIDE",
  "DAC_READ_SEARCH",
  "FOWNER",
  "FSETID",
  "KILL",
  "SETGID",
  "SETUID",
  "SETPCAP",
  "LINUX_IMMUTABLE",
  "NET_BIND_SERVICE",
  "NET_BROADCAST",
  "NET_ADMIN",
  "NET_RAW",
  "IPC_LOCK",
  "IPC_OWNER",
  "SYS_MODULE",
  "SYS_RAWIO",
  "SYS_CHROOT",
  "SYS_PTRACE",
  "SYS_PACCT",
  "SYS_ADMIN",
  "SYS_BOOT",
  "SYS_NICE",
  "SYS_RESOURCE",
  "SYS_TIME",
  "SYS_TTY_CONFIG",
  "MKNOD",
  "LEASE",
  "AUDIT_WRITE",
  "AUDIT_CONTROL",
  "SETFCAP",
  "MAC_OVERRIDE",
  "MAC_ADMIN",
  "SYSLOG",
  "WAKE_ALARM",
  "BLOCK_SUSPEND",
  "AUDIT_READ",
  "PERFMON",
  "BPF",
  "CHECKPOINT_RESTORE",
];

/** What container runtimes leave to a container by default. */
const defaults = [
  "CHOWN",
  "DAC_OVERRIDE",
  "FSETID",
  "FOWNER",
  "MKNOD",
  "NET_RAW",
  "SETGID",
  "SETUID",
  "SETFCAP",
  "SETPCAP",
  "NET_BIND_SERVICE",
  "SYS_CHROOT",
  "KILL",
  "AUDIT_WRITE",
];

/** Primary groups in the /etc/passwd of a container (`src-lua/instance-root.ts`): what a runtime looks up for a user without group. */
const primaryGroups: Readonly<Record<number, number>> = {
  1: 1,
  2: 2,
  3: 3,
  33: 33,
  70: 70,
  999: 999,
  1000: 1000,
  65534: 65534,
};

export function isPrivileged(container: Container): boolean {
  return container.securityContext?.privileged === true;
}

export function containerUser(
  pod: Pod,
  container: Container,
  image: { readonly uid: number; readonly gid: number } | undefined,
): ContainerUser {
  const own = container.securityContext;
  const shared = pod.spec?.securityContext;
  const uid = own?.runAsUser ?? shared?.runAsUser ?? image?.uid ?? 0;
  const gid = own?.runAsGroup ?? shared?.runAsGroup ?? (uid === image?.uid ? image.gid : (primaryGroups[uid] ?? 0));
  const groups = new Set<number>([gid, ...(shared?.supplementalGroups ?? [])]);
  if (shared?.fsGroup !== undefined) groups.add(shared.fsGroup);
  return {
    uid,
    gid,
    groups: [...groups],
    ...(isPrivileged(container) ? {} : { capabilities: capabilities(own?.capabilities) }),
    ...(own?.allowPrivilegeEscalation === false ? { noNewPrivs: true } : {}),
  };
}

/** The message of upstream's refusal, or undefined: `runAsNonRoot` with a root user is not started. */
export function nonRootViolation(pod: Pod, container: Container, uid: number): string | undefined {
  const nonRoot = container.securityContext?.runAsNonRoot ?? pod.spec?.securityContext?.runAsNonRoot;
  if (!nonRoot || uid !== 0) return undefined;
  return `container has runAsNonRoot and image will run as root (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`;
}

function capabilities(change: { add?: string[] | undefined; drop?: string[] | undefined } | undefined): number[] {
  const drop = (change?.drop ?? []).map(plain);
  const add = (change?.add ?? []).map(plain);
  const kept = new Set(drop.includes("ALL") ? [] : defaults.filter((name) => !drop.includes(name)));
  for (const name of add.includes("ALL") ? names : add) kept.add(name);
  return [...kept].map((name) => names.indexOf(name)).filter((number) => number >= 0);
}

/** `NET_ADMIN` of 12. */
export const capabilityName = (number: number): string => names[number] ?? `CAP_${number}`;

const plain = (name: string) => name.toUpperCase().replace(/^CAP_/, "");
