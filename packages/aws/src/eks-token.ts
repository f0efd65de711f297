/** The bearer token `aws eks get-token` makes: a presigned STS GetCallerIdentity that the API server's authenticator replays. */
import type { CredentialProvider } from "./credentials.ts";
import { canonicalQuery, presign } from "./sigv4.ts";

const prefix = "k8s-aws-v1.";
/** The authenticator takes a token for 15 minutes after it was signed; one minute is left for clocks. */
const validMs = 14 * 60_000;

export async function eksToken(options: {
  clusterName: string;
  region: string;
  credentials: CredentialProvider;
  now?: Date;
}): Promise<{ token: string; expiration: Date }> {
  const now = options.now ?? new Date();
  const host = `sts.${options.region}.amazonaws.com`;
  const query = presign(
    {
      method: "GET",
      path: "/",
      query: [
        ["Action", "GetCallerIdentity"],
        ["Version", "2011-06-15"],
      ],
      headers: { host, "x-k8s-aws-id": options.clusterName },
    },
    { keys: await options.credentials(), region: options.region, service: "sts", now, expiresSeconds: 60 },
  );
  const url = `https://${host}/?${canonicalQuery(query)}`;
  return { token: prefix + Buffer.from(url).toString("base64url"), expiration: new Date(now.getTime() + validMs) };
}
