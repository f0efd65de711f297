/** STS: who calls, and sessions of roles. */
import type { StsActions } from "@underlay/aws/generated/sts-types";
import { issue, sessionPrincipal } from "../iam/role-credentials.ts";
import { ApiError } from "../protocol/api-error.ts";
import { stsTable } from "@underlay/aws/generated/sts-table";
import { serviceOf, type OperationsOf, type Service } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";

const operations = (world: World): OperationsOf<StsActions> => ({
  GetCallerIdentity: {
    takes: [],
    run: (_, { principal }) => ({ UserId: principal.userId, Account: principal.account, Arn: principal.arn }),
  },
  AssumeRole: {
    takes: ["RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId"],
    run({ RoleArn = "", RoleSessionName = "", DurationSeconds = 3600 }) {
      const match = /^arn:aws:iam::(\d{12}):role\/(?:.*\/)?([\w+=,.@-]+)$/.exec(RoleArn);
      if (match === null) throw new ApiError("ValidationError", `${RoleArn} is invalid`);
      if (!/^[\w+=,.@-]{2,64}$/.test(RoleSessionName))
        throw new ApiError(
          "ValidationError",
          `1 validation error detected: Value '${RoleSessionName}' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*`,
        );
      if (DurationSeconds < 900 || DurationSeconds > 43_200)
        throw new ApiError("ValidationError", "The requested DurationSeconds must be between 900 and 43200.");
      const [, account = "", roleName = ""] = match;
      if (account !== world.accountId)
        throw new ApiError("AccessDenied", `User is not authorized to perform: sts:AssumeRole on resource: ${RoleArn}`);
      const principal = sessionPrincipal(world, roleName, RoleSessionName);
      const issued = issue(world, principal, DurationSeconds * 1000);
      return {
        Credentials: {
          AccessKeyId: issued.id,
          SecretAccessKey: issued.secretAccessKey,
          SessionToken: issued.sessionToken,
          Expiration: new Date(issued.expiration),
        },
        AssumedRoleUser: { AssumedRoleId: principal.userId, Arn: principal.arn },
      };
    },
  },
});

export function stsService(world: World): Service {
  return serviceOf("sts", stsTable, operations(world));
}
