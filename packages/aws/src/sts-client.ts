/** A light STS client over the generated table. `sts.send("Action", input)`; errors are `AwsError`. */
import { createClient, type Client, type ClientOptions } from "./client.ts";
import { stsTable } from "./generated/sts-table.ts";
import type { StsActions } from "./generated/sts-types.ts";

export type StsClient = Client<StsActions>;

export function createStsClient(options: ClientOptions): StsClient {
  return createClient<StsActions>("sts", stsTable, options);
}
