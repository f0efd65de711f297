/** Where credentials come from: the environment, or the instance role through IMDS. Providers cache and refresh. */
import { AwsError } from "./aws-error.ts";
import type { Env } from "./endpoints.ts";
import type { ImdsClient } from "./imds-client.ts";

export type Credentials = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
};

/** Resolves to credentials that are good for at least a few minutes. */
export type CredentialProvider = () => Promise<Credentials>;

const refreshBeforeMs = 5 * 60_000;

/** `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; undefined when the first two are not set. */
export function envCredentials(env: Env): CredentialProvider | undefined {
  const accessKeyId = env["AWS_ACCESS_KEY_ID"];
  const secretAccessKey = env["AWS_SECRET_ACCESS_KEY"];
  const sessionToken = env["AWS_SESSION_TOKEN"];
  if (!accessKeyId || !secretAccessKey) return undefined;
  const credentials = { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) };
  return () => Promise.resolve(credentials);
}

/** The credentials of the instance's role, refreshed five minutes before they expire. Concurrent callers share one fetch. */
export function instanceRoleCredentials(imds: ImdsClient, now: () => number = Date.now): CredentialProvider {
  let held: Credentials | undefined;
  let fetching: Promise<Credentials> | undefined;
  return async () => {
    if (held?.expiration !== undefined && held.expiration.getTime() - refreshBeforeMs > now()) return held;
    fetching ??= fetchRole(imds).finally(() => (fetching = undefined));
    try {
      held = await fetching;
    } catch (error) {
      // IMDS may be away for a moment; what is held is still right until it expires.
      if (held?.expiration === undefined || held.expiration.getTime() <= now()) throw error;
    }
    return held;
  };
}

/** The SDKs' order for a process on an instance: environment first, then the instance role. */
export function defaultCredentials(env: Env, imds?: ImdsClient): CredentialProvider {
  const fromEnv = envCredentials(env);
  if (fromEnv !== undefined) return fromEnv;
  if (imds !== undefined) return instanceRoleCredentials(imds);
  return () => Promise.reject(noCredentials("AWS_ACCESS_KEY_ID is not set and there is no instance role to ask for"));
}

async function fetchRole(imds: ImdsClient): Promise<Credentials> {
  const root = "meta-data/iam/security-credentials/";
  const [role] = await imds.list(root);
  if (role === undefined) throw noCredentials("the instance has no role");
  const text = await imds.get(root + role);
  if (text === undefined) throw noCredentials(`IMDS has no credentials for role ${role}`);
  const answer = JSON.parse(text) as Record<string, string | undefined>;
  const { AccessKeyId, SecretAccessKey, Token, Expiration } = answer;
  if (AccessKeyId === undefined || SecretAccessKey === undefined)
    throw noCredentials(`IMDS answered ${answer["Code"]} for role ${role}`);
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    ...(Token === undefined ? {} : { sessionToken: Token }),
    ...(Expiration === undefined ? {} : { expiration: new Date(Expiration) }),
  };
}

function noCredentials(why: string): AwsError {
  return new AwsError({
    code: "NoCredentials",
    status: 0,
    message: `Cannot sign an AWS request: ${why}`,
    hint: "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the instance an instance profile",
  });
}
