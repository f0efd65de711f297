/** Where a service is reached: the SDKs' standard overrides, then the public name. */
import type { ServiceName } from "./model.ts";

export type Env = Readonly<Record<string, string | undefined>>;

/** `AWS_ENDPOINT_URL_<SERVICE>`, then `AWS_ENDPOINT_URL`, then `https://<service>.<region>.amazonaws.com`. */
export function endpointFor(service: ServiceName, region: string, env: Env): string {
  const given = env[`AWS_ENDPOINT_URL_${service.toUpperCase()}`] ?? env["AWS_ENDPOINT_URL"];
  if (given !== undefined && given !== "") return given.replace(/\/$/, "");
  return `https://${service}.${region}.amazonaws.com`;
}
