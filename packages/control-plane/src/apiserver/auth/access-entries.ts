/**
 * EKS access entries: which Kubernetes user an IAM principal is. The cloud rewrites the file atomically; it is read again when
 * it changed. Entries of type EC2_LINUX name nodes after the instance's private DNS name.
 */
import { readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Log } from "@underlay/log/log";
import type { UserInfo } from "../seams.ts";
import { withAuthenticated } from "./authenticate.ts";

export type AccessPolicy = {
  /** Last part of the policy's ARN: `AmazonEKSClusterAdminPolicy`. */
  readonly name: string;
  /** Empty: the whole cluster. */
  readonly namespaces: readonly string[];
};
type Entry = {
  readonly principalArn: string;
  readonly type?: string;
  readonly username?: string;
  readonly groups?: readonly string[];
  readonly policies?: readonly (
    | string
    | { policyArn?: string; accessScope?: { type?: string; namespaces?: string[] } }
  )[];
};
export type CallerIdentity = { readonly arn: string; readonly account: string; readonly userId: string };

export class AccessEntries {
  readonly #file: string | undefined;
  readonly #instances: string;
  readonly #log: Log;
  #stamp = "";
  #entries: readonly Entry[] = [];
  /** Policies by username, for authorization of users seen since the start. */
  readonly #policies = new Map<string, readonly AccessPolicy[]>();

  /** `stateDir` is the control plane's (`<cluster>/eks/<name>`): instances stand beside it. */
  constructor(options: { file: string | undefined; stateDir: string; log: Log }) {
    this.#file = options.file;
    this.#instances = join(dirname(dirname(options.stateDir)), "instances");
    this.#log = options.log;
  }

  /** The user of an IAM identity, undefined when no entry names it. */
  userOf(identity: CallerIdentity): UserInfo | undefined {
    this.#refresh();
    const canonical = canonicalArn(identity.arn);
    const entry = this.#entries.find((candidate) => withoutPath(candidate.principalArn) === withoutPath(canonical));
    if (!entry) return undefined;
    const session = /:assumed-role\/[^/]+\/(.+)$/.exec(identity.arn)?.[1] ?? "";
    const username = this.#username(entry, identity, session);
    if (username === undefined) return undefined;
    const groups =
      entry.type?.startsWith("EC2_") || entry.type === "HYBRID_LINUX"
        ? [...new Set([...(entry.groups ?? []), "system:nodes", "system:bootstrappers"])]
        : (entry.groups ?? []);
    this.#policies.set(username, (entry.policies ?? []).map(parsePolicy));
    return {
      username,
      uid: `aws-iam-authenticator:${identity.account}:${identity.userId.split(":")[0]}`,
      groups: withAuthenticated(groups),
      extra: {
        arn: [identity.arn],
        canonicalArn: [canonical],
        principalId: [identity.userId.split(":")[0] ?? ""],
        sessionName: [session],
      },
    };
  }

  /** Access policies of a user that came by an entry. */
  policiesOf(username: string): readonly AccessPolicy[] {
    return this.#policies.get(username) ?? [];
  }

  #username(entry: Entry, identity: CallerIdentity, session: string): string | undefined {
    const node = entry.type?.startsWith("EC2_") ? "system:node:{{EC2PrivateDNSName}}" : undefined;
    let name = entry.username || node || (session ? identity.arn : entry.principalArn);
    if (name.includes("{{EC2PrivateDNSName}}")) {
      const dnsName = this.#privateDnsName(session);
      if (dnsName === undefined) return undefined;
      name = name.replaceAll("{{EC2PrivateDNSName}}", dnsName);
    }
    return name
      .replaceAll("{{SessionName}}", session.replaceAll("@", "-"))
      .replaceAll("{{SessionNameRaw}}", session)
      .replaceAll("{{AccountID}}", identity.account);
  }

  /** An instance's role session is named by its id; its boot file carries the name it was given. */
  #privateDnsName(instanceId: string): string | undefined {
    if (!/^i-[0-9a-f]+$/.test(instanceId)) return undefined;
    try {
      const boot = JSON.parse(readFileSync(join(this.#instances, instanceId, "boot.json"), "utf8")) as {
        hostname?: string;
      };
      return boot.hostname;
    } catch (err) {
      this.#log.warn("cannot name the node of an instance", { instanceId, err });
      return undefined;
    }
  }

  #refresh(): void {
    if (this.#file === undefined) return;
    try {
      const { mtimeMs, size, ino } = statSync(this.#file);
      const stamp = `${mtimeMs} ${size} ${ino}`;
      if (stamp === this.#stamp) return;
      this.#entries = JSON.parse(readFileSync(this.#file, "utf8")) as Entry[];
      this.#policies.clear();
      this.#stamp = stamp;
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== "ENOENT")
        this.#log.warn("cannot read access entries", { file: this.#file, err });
    }
  }
}

/** `arn:aws:sts::A:assumed-role/R/S` → `arn:aws:iam::A:role/R`; other ARNs stay. */
export function canonicalArn(arn: string): string {
  const match = /^arn:([^:]+):sts::(\d+):assumed-role\/([^/]+)\//.exec(arn);
  return match ? `arn:${match[1]}:iam::${match[2]}:role/${match[3]}` : arn;
}

/** A session's ARN does not carry its role's path, so roles are compared without. */
function withoutPath(arn: string): string {
  return arn.replace(/:(role|user)\/.*\/([^/]+)$/, ":$1/$2");
}

function parsePolicy(policy: NonNullable<Entry["policies"]>[number]): AccessPolicy {
  const arn = typeof policy === "string" ? policy : (policy.policyArn ?? "");
  const scope = typeof policy === "string" ? undefined : policy.accessScope;
  return {
    name: arn.slice(arn.lastIndexOf("/") + 1),
    namespaces: scope?.type === "namespace" ? (scope.namespaces ?? []) : [],
  };
}
