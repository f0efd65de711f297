/** Clients of the cluster's AWS, with the operator's key, through the host door. */
import { createEc2Client } from "@underlay/aws/ec2-client";
import { createEksClient } from "@underlay/aws/eks-client";
import type { ClusterRecord } from "./places.ts";

export function awsClients(record: ClusterRecord) {
  const credentials = async () => ({ accessKeyId: record.accessKeyId, secretAccessKey: record.secretAccessKey });
  const options = { region: record.plan.region, credentials, endpoint: `http://127.0.0.1:${record.apiPort}` };
  return { ec2: createEc2Client(options), eks: createEksClient(options) };
}
