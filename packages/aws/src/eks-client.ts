/** A light EKS client over the generated table. `eks.send("Action", input)`; errors are `AwsError`. */
import { createClient, type Client, type ClientOptions } from "./client.ts";
import { eksTable } from "./generated/eks-table.ts";
import type { EksActions } from "./generated/eks-types.ts";

export type EksClient = Client<EksActions>;

export function createEksClient(options: ClientOptions): EksClient {
  return createClient<EksActions>("eks", eksTable, options);
}
