/** CIDR blocks as callers write them. */
import { formatCidr, isCidr, parseCidr } from "@underlay/addr/cidr";
import { ApiError } from "../protocol/api-error.ts";

/** The canonical block (`10.0.0.9/16` becomes `10.0.0.0/16`, as EC2 does it), or EC2's error for a bad text or size. */
export function requireIpv4Cidr(text: string, options: { code: string; least: number; most: number }): string {
  if (!isCidr(text) || parseCidr(text).family !== 4)
    throw new ApiError(
      "InvalidParameterValue",
      `Value (${text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.`,
    );
  const cidr = parseCidr(text);
  if (cidr.prefixLength < options.least || cidr.prefixLength > options.most)
    throw new ApiError(options.code, `The CIDR '${text}' is invalid.`);
  return formatCidr(cidr);
}
