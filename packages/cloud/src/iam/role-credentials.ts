/** Credentials the cloud issues for roles: to instances through IMDS, and to callers of AssumeRole. Kept, so that they outlive a restart. */
import { createHash, randomBytes } from "node:crypto";
import type { RoleCredentials } from "../fabric/seam.ts";
import type { KnownKey, Principal } from "../protocol/authentication.ts";
import type { World } from "../store/kinds.ts";

export type IssuedCredentials = {
  /** The access key id. */
  readonly id: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly issuedAt: string;
  readonly expiration: string;
  readonly principal: Principal;
  /** Present for an instance's role. */
  readonly instanceId?: string;
};

const instanceLifetimeMs = 6 * 3600_000;
/** IMDS shows new credentials at least five minutes before the old ones end; ours come an hour before. */
const renewBeforeMs = 3600_000;

/** The credentials of an instance's role: the current ones, or new ones when those near their end. */
export function issueRoleCredentials(world: World, instanceId: string): RoleCredentials | undefined {
  const instance = world.store.get("instance", instanceId);
  if (instance?.role === undefined || instance.state === "terminated") return undefined;
  const now = world.now().getTime();
  const mine = world.store.all("credentials").filter((one) => one.instanceId === instanceId);
  const current = mine.find((one) => Date.parse(one.expiration) - renewBeforeMs > now);
  if (current !== undefined) return render(current);
  return world.store.transaction(() => {
    for (const old of world.store.all("credentials"))
      if (Date.parse(old.expiration) < now) world.store.remove("credentials", old.id);
    return render(
      issue(world, sessionPrincipal(world, instance.role?.name ?? "", instanceId), instanceLifetimeMs, instanceId),
    );
  });
}

/** Issues temporary credentials for a principal. Inside a transaction. */
export function issue(world: World, principal: Principal, lifetimeMs: number, instanceId?: string): IssuedCredentials {
  const now = world.now();
  return world.store.put("credentials", {
    id: `ASIA${base32(randomBytes(10))}`,
    secretAccessKey: randomBytes(30).toString("base64"),
    sessionToken: `IQoJb3JpZ2luX2VjE${randomBytes(240).toString("base64")}`,
    issuedAt: seconds(now),
    expiration: seconds(new Date(now.getTime() + lifetimeMs)),
    principal,
    ...(instanceId === undefined ? {} : { instanceId }),
  });
}

/** `arn:aws:sts::<account>:assumed-role/<role>/<session>`. */
export function sessionPrincipal(
  world: World,
  roleName: string,
  session: string,
  account = world.accountId,
): Principal {
  return {
    account,
    arn: `arn:aws:sts::${account}:assumed-role/${roleName}/${session}`,
    userId: `${roleIdOf(account, roleName)}:${session}`,
  };
}

export function knownRoleKey(world: World, accessKeyId: string): KnownKey | undefined {
  const issued = world.store.get("credentials", accessKeyId);
  if (issued === undefined) return undefined;
  const { secretAccessKey, sessionToken, expiration, principal } = issued;
  return { secretAccessKey, sessionToken, expiration, principal };
}

/** `AROA…`: stable per role, as there is no IAM to keep it. */
export function roleIdOf(account: string, roleName: string): string {
  return `AROA${base32(createHash("sha256").update(`${account}/${roleName}`).digest()).slice(0, 17)}`;
}

function render(issued: IssuedCredentials): RoleCredentials {
  return {
    accessKeyId: issued.id,
    secretAccessKey: issued.secretAccessKey,
    sessionToken: issued.sessionToken,
    lastUpdated: issued.issuedAt,
    expiration: issued.expiration,
  };
}

function seconds(date: Date): string {
  return date.toISOString().replace(/\.\d{3}Z$/, "Z");
}

function base32(bytes: Uint8Array): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  let bits = 0n;
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte);
  let text = "";
  for (let i = 0; i < Math.floor((bytes.length * 8) / 5); i += 1) {
    text = alphabet.charAt(Number(bits & 31n)) + text;
    bits >>= 5n;
  }
  return text;
}
