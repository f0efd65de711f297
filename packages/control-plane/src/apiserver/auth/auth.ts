/**
 * Who asks, and may they: the auth seam.
 *
 * Authentication: client certificate, then bearer token (service account or EKS), then anonymous; impersonation on top.
 * Authorization: system:masters, public paths, the node rule, EKS access policies, RBAC: the first that allows wins.
 * Never here: admission. Read next: `authenticate.ts`, `authorizer.ts`, `service-account-tokens.ts`, `eks-tokens.ts`.
 */
import type { Seams, ServerContext } from "../seams.ts";
import { AccessEntries } from "./access-entries.ts";
import { createAuthenticator } from "./authenticate.ts";
import { createAuthorizer } from "./authorizer.ts";
import { EksTokens } from "./eks-tokens.ts";
import { NodeGraph } from "./node-rules.ts";
import { Rbac } from "./rbac.ts";
import { createReviews } from "./reviews.ts";
import { ServiceAccountTokens } from "./service-account-tokens.ts";

type AuthSeams = Pick<Seams, "authenticate" | "authorize" | "review" | "requestToken" | "wellKnown">;

/** The auth seam. Makes the service-account signing key on first use of a state folder. */
export function createAuth(context: ServerContext): AuthSeams {
  const { settings, objects, log, now } = context;
  const serviceAccounts = new ServiceAccountTokens({
    stateDir: settings.stateDir,
    issuer: settings.oidcIssuer,
    objects,
    now,
  });
  const entries = new AccessEntries({ file: settings.accessEntriesFile, stateDir: settings.stateDir, log });
  const eks = settings.sts
    ? new EksTokens({
        clusterName: settings.clusterName,
        region: settings.region,
        sts: settings.sts,
        ca: context.authority.cert,
        entries,
        log,
        now,
      })
    : undefined;
  const rbac = new Rbac(objects);
  const authorize = createAuthorizer({ rbac, nodes: new NodeGraph(objects), entries });
  const authenticateToken = async (token: string, audiences?: readonly string[]) =>
    token.startsWith("k8s-aws-v1.") ? eks?.authenticate(token) : serviceAccounts.authenticate(token, audiences);
  return {
    authenticate: createAuthenticator({ authenticateToken, authorize }),
    authorize,
    review: createReviews({ authorize, authenticateToken, rbac, audiences: serviceAccounts.audiences }),
    requestToken: (serviceAccount, request) => Promise.resolve(serviceAccounts.request(serviceAccount, request)),
    wellKnown: (question) => serviceAccounts.wellKnown(question),
  };
}
