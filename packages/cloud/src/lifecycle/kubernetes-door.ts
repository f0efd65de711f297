/** One question to a cluster's API server through its host door, as the admin of `admin.kubeconfig`. */
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";

type Door = { readonly server: URL; readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };

/** Sends one request. Rejects while there is no kubeconfig yet or nobody listens. */
export async function askApiServer(
  directory: string,
  path: string,
  method: "GET" | "DELETE" | "POST" | "PATCH" = "GET",
  body?: { readonly type: string; readonly content: object },
): Promise<{ status: number; body: string }> {
  const text = body === undefined ? undefined : JSON.stringify(body.content);
  const { server, ca, cert, key } = readDoor(join(directory, "admin.kubeconfig"));
  return new Promise((resolve, reject) => {
    const call = request(
      new URL(path, server),
      { method, ca, cert, key, agent: false, timeout: 3000, headers: headersOf(body?.type, text) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
        );
      },
    );
    call.on("timeout", () => call.destroy(new Error(`no answer from ${server.host} within 3 s`)));
    call.on("error", reject);
    call.end(text);
  });
}

function headersOf(type: string | undefined, text: string | undefined): Record<string, string | number> {
  if (type === undefined || text === undefined) return { accept: "application/json" };
  return { accept: "application/json", "content-type": type, "content-length": Buffer.byteLength(text) };
}

/** The four values that matter; the file is JSON or YAML, written by our API server. */
function readDoor(file: string): Door {
  const text = readFileSync(file, "utf8");
  const value = (name: string) => {
    const found = new RegExp(`"?${name}"?:\\s*"?([^"\\s,}]+)`).exec(text)?.[1];
    if (found === undefined) throw new Error(`Cannot use ${file}: it has no ${name}`);
    return found;
  };
  const data = (name: string) => Buffer.from(value(name), "base64");
  return {
    server: new URL(value("server")),
    ca: data("certificate-authority-data"),
    cert: data("client-certificate-data"),
    key: data("client-key-data"),
  };
}
