/** `pods/NAME/log`: the kubelet's text, passed on chunk by chunk as it comes. */
import type { ServerResponse } from "node:http";
import { ApiError, invalid } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { KubeletDialer } from "./kubelet.ts";
import { containerOf } from "./pod-target.ts";

const passed = ["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];

export async function streamLog(
  response: ServerResponse,
  pod: ApiObject,
  query: URLSearchParams,
  dialer: KubeletDialer,
): Promise<void> {
  checkOptions(pod, query);
  const container = containerOf(pod, query.get("container"));
  const forwarded = new URLSearchParams();
  for (const name of passed) {
    const value = query.get(name);
    if (value !== null && value !== "" && value !== "false") forwarded.set(name, value);
  }
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const path = `/containerLogs/${pod.metadata.namespace}/${pod.metadata.name}/${container}?${forwarded.toString()}`;
  const source = await dialer.get(dialer.addressOfPod(pod), path, gone.signal);
  response.writeHead(200, { "content-type": "text/plain", "cache-control": "no-cache, private" });
  // A follower of a silent container must see that it is connected.
  response.flushHeaders();
  await new Promise<void>((resolve) => {
    source.on("error", () => response.destroy());
    response.on("close", resolve);
    source.pipe(response);
  });
}

function checkOptions(pod: ApiObject, query: URLSearchParams): void {
  const log = { group: "", kind: "PodLogOptions" };
  const refuse = (field: string, value: unknown, detail: string): ApiError =>
    invalid(log, pod.metadata.name, [{ type: "Invalid", field, value, detail }]);
  for (const name of ["tailLines", "limitBytes", "sinceSeconds"]) {
    const text = query.get(name);
    if (text === null) continue;
    const value = Number(text);
    if (!Number.isInteger(value) || value < (name === "tailLines" ? 0 : 1)) {
      throw refuse(name, text, name === "tailLines" ? "must be greater than or equal to 0" : "must be greater than 0");
    }
  }
  if (query.has("sinceSeconds") && query.has("sinceTime")) {
    throw new ApiError(
      422,
      "Invalid",
      `PodLogOptions "${pod.metadata.name}" is invalid: Forbidden: at most one of \`sinceTime\` or \`sinceSeconds\` may be specified`,
    );
  }
}
