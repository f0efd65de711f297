/**
 * Protobuf request bodies (`application/vnd.kubernetes.protobuf`): the seam between the router and `decode.ts`.
 * Answers are always JSON, which every client takes.
 */
import { badRequest, unsupportedMediaType } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { Seams } from "../seams.ts";
import { decodeProtobuf } from "./decode.ts";

/** The protobuf seam. */
export function createBodyDecoder(): Pick<Seams, "decodeProtobuf"> {
  return {
    decodeProtobuf: (body) => {
      const decoded = decodeProtobuf(body);
      if (decoded.ok) return decoded.object as ApiObject;
      if (decoded.why === "unsupported") throw unsupportedMediaType(decoded.message);
      throw badRequest(decoded.message);
    },
  };
}
