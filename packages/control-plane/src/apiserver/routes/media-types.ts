/** What the client takes: plain JSON, YAML, or objects turned into a Table or PartialObjectMetadata. */
import { ApiError } from "../api-error.ts";

export type Format = {
  readonly encoding: "json" | "yaml";
  readonly as: "object" | "Table" | "PartialObjectMetadata";
  /** Of meta.k8s.io, for the transformed ones. */
  readonly version: string;
};

const plain: Format = { encoding: "json", as: "object", version: "v1" };

/** The first thing of `Accept` this server makes; 406 when there is none. */
export function negotiate(accept: string | undefined): Format {
  if (accept === undefined || accept === "") return plain;
  for (const part of accept.split(",")) {
    const [type = "", ...parameters] = part.split(";").map((text) => text.trim());
    const values = new Map(
      parameters.map((text): [string, string] => [text.split("=")[0]!, text.slice(text.indexOf("=") + 1)]),
    );
    const as = values.get("as");
    if (type === "application/yaml" && as === undefined) return { ...plain, encoding: "yaml" };
    if (type !== "application/json" && type !== "*/*" && type !== "application/*") continue;
    if (as === undefined) return plain;
    if (values.get("g") !== "meta.k8s.io" || !["v1", "v1beta1"].includes(values.get("v") ?? "")) continue;
    if (as === "Table") return { encoding: "json", as, version: values.get("v")! };
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList")
      return { encoding: "json", as: "PartialObjectMetadata", version: values.get("v")! };
  }
  throw new ApiError(
    406,
    "NotAcceptable",
    "only the following media types are accepted: application/json, application/yaml",
    {},
  );
}
