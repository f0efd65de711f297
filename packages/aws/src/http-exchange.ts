/** One HTTP request and its whole answer, over kept-alive connections, within a time limit. */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { AwsError } from "./aws-error.ts";

export type HttpAnswer = { status: number; headers: IncomingMessage["headers"]; body: Buffer };

export type Exchange = {
  send(options: {
    url: URL;
    method: string;
    headers: Readonly<Record<string, string>>;
    body: string;
    timeoutMs: number;
    signal?: AbortSignal | undefined;
  }): Promise<HttpAnswer>;
  close(): void;
};

export function createExchange(): Exchange {
  const plain = new HttpAgent({ keepAlive: true, maxSockets: 16, keepAliveMsecs: 10_000 });
  let secure: import("node:https").Agent | undefined;

  return {
    async send({ url, method, headers, body, timeoutMs, signal }) {
      let request = httpRequest;
      let agent: HttpAgent = plain;
      if (url.protocol === "https:") {
        // TLS is loaded by the first request that needs it: many processes only ever use plain HTTP.
        const https = await import("node:https");
        secure ??= new https.Agent({ keepAlive: true, maxSockets: 16, keepAliveMsecs: 10_000 });
        request = https.request as typeof httpRequest;
        agent = secure;
      }
      const limit = AbortSignal.timeout(timeoutMs);
      const both = signal === undefined ? limit : AbortSignal.any([limit, signal]);
      return new Promise<HttpAnswer>((resolve, reject) => {
        const fail = (cause: Error) => {
          if (signal?.aborted === true) reject(signal.reason);
          else if (limit.aborted)
            reject(
              new AwsError({
                code: "TimeoutError",
                status: 0,
                message: `No answer from ${url.host} within ${timeoutMs} ms`,
                cause,
              }),
            );
          else
            reject(
              new AwsError({
                code: "NetworkingError",
                status: 0,
                message: `Cannot reach ${url.host}: ${cause.message}`,
                cause,
              }),
            );
        };
        const out = request(url, {
          method,
          headers: { ...headers, "content-length": String(Buffer.byteLength(body)) },
          agent,
          signal: both,
        });
        out.on("error", fail);
        out.on("response", (answer) => {
          const chunks: Buffer[] = [];
          answer.on("data", (chunk: Buffer) => chunks.push(chunk));
          answer.on("error", fail);
          answer.on("end", () =>
            resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(chunks) }),
          );
        });
        out.end(body);
      });
    },
    close() {
      plain.destroy();
      secure?.destroy();
    },
  };
}
