import { resourceNotServed } from "../api-error.ts";
import type { Seams, ServerContext } from "../seams.ts";

/** Placeholder of the streaming seam until its owner's file lands: refuses. */
export function createStreaming(_context: ServerContext): Pick<Seams, "stream" | "upgrade"> {
  return { stream: () => Promise.reject(resourceNotServed()), upgrade: () => Promise.reject(resourceNotServed()) };
}
