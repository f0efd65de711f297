/** A light EC2 client over the generated table. `ec2.send("Action", input)`; errors are `AwsError`. */
import { createClient, type Client, type ClientOptions } from "./client.ts";
import { ec2Table } from "./generated/ec2-table.ts";
import type { Ec2Actions } from "./generated/ec2-types.ts";

export type Ec2Client = Client<Ec2Actions>;

export function createEc2Client(options: ClientOptions): Ec2Client {
  return createClient<Ec2Actions>("ec2", ec2Table, options);
}
