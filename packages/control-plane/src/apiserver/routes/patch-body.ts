/** The three patches that are computed on the current object (server-side apply is ../patch/apply.ts). */
import { ApiError, badRequest } from "../api-error.ts";
import { applyJsonPatch, PatchError } from "../patch/json-patch.ts";
import { applyMergePatch } from "../patch/merge-patch.ts";
import { applyStrategicMerge } from "../patch/strategic-merge.ts";
import type { ResourceInfo } from "../resource-info.ts";
import { builtinType, typeOf } from "../schema/type-node.ts";

const json = "application/json-patch+json";
const merge = "application/merge-patch+json";
const strategic = "application/strategic-merge-patch+json";
const apply = "application/apply-patch+yaml";

/** Content types a kind takes: custom resources have no strategic merge patch. */
export const patchTypes = (info: ResourceInfo): string[] =>
  info.custom === undefined ? [json, merge, strategic, apply] : [json, merge, apply];

export const patchFunction = {
  unsupported(type: string, info: ResourceInfo): ApiError {
    return new ApiError(
      415,
      "UnsupportedMediaType",
      `the body of the request was in an unknown format - accepted media types include: ${patchTypes(info).join(", ")}`,
      { causes: [{ message: type }] },
    );
  },
  /** The patch as a function of the current object. */
  of(type: string, patch: unknown, info: ResourceInfo, subresource: string): (current: unknown) => unknown {
    if (type === json) {
      if (!Array.isArray(patch))
        throw badRequest("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch");
      return (current) => {
        try {
          return applyJsonPatch(current, patch);
        } catch (error) {
          if (error instanceof PatchError) throw cannotApply(error.message);
          throw error;
        }
      };
    }
    if (typeof patch !== "object" || patch === null || Array.isArray(patch))
      throw badRequest(
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
      );
    if (type === merge) return (current) => applyMergePatch(current, patch);
    const node = subresource === "scale" ? builtinType("io.k8s.api.autoscaling.v1.Scale") : typeOf(info);
    return (current) => applyStrategicMerge(current, patch, node);
  },
};

/** A JSON Patch that does not fit is a 422 without fields. */
function cannotApply(message: string): ApiError {
  return new ApiError(422, "Invalid", `the server rejected our request due to an error in our request: ${message}`, {});
}
