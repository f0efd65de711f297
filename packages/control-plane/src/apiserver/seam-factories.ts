/** Every seam from its folder, for server.ts: one call, one object. */
import { createAdmission } from "./admission/admission.ts";
import { createAuth } from "./auth/auth.ts";
import { createCrds } from "./crd/crd.ts";
import { createDiscovery } from "./discovery/discovery.ts";
import { createOpenApi } from "./openapi/openapi.ts";
import { createBodyDecoder } from "./protobuf/protobuf.ts";
import type { Seams, ServerContext } from "./seams.ts";
import { createStreaming } from "./streaming/streaming.ts";
import { createTables } from "./tables/tables.ts";

export function createSeams(context: ServerContext): Seams {
  return {
    ...createBodyDecoder(),
    ...createAuth(context),
    ...createAdmission(context),
    ...createTables(),
    ...createDiscovery(context),
    ...createOpenApi(context),
    ...createCrds(context),
    ...createStreaming(context),
  };
}
