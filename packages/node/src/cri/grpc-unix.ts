/** gRPC over a Unix socket on Node's own HTTP/2: unary calls and server streams, which is all CRI needs. */
import { connect as connectHttp2, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { connect } from "node:net";
import { UnderlayError } from "@underlay/log/underlay-error";

export type CallOptions = { readonly signal?: AbortSignal; readonly timeoutMs?: number };

/** A call that the other side refused (`grpcStatus` as gRPC numbers them), or that did not reach it (14, unavailable). */
export class GrpcError extends UnderlayError {
  readonly grpcStatus: number;
  constructor(grpcStatus: number, message: string) {
    super("GrpcError", message);
    this.grpcStatus = grpcStatus;
  }
}

export const notFound = 5;
export const unavailable = 14;

export class GrpcUnix {
  readonly #path: string;
  #session: ClientHttp2Session | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  unary(method: string, request: Uint8Array, options: CallOptions = {}): Promise<Buffer> {
    const parts: Buffer[] = [];
    return this.#call(method, request, options, (message) => parts.push(message)).then(
      () => parts[0] ?? Buffer.alloc(0),
    );
  }

  /** Resolves when the stream ends, rejects when it breaks. */
  stream(method: string, request: Uint8Array, each: (message: Buffer) => void, signal: AbortSignal): Promise<void> {
    return this.#call(method, request, { signal, timeoutMs: 0 }, each);
  }

  close(): void {
    this.#session?.destroy();
  }

  #call(
    method: string,
    request: Uint8Array,
    { signal, timeoutMs = 120_000 }: CallOptions,
    each: (message: Buffer) => void,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(new GrpcError(1, `${method} was called off`));
      const stream = this.#open().request({
        ":method": "POST",
        ":path": method,
        "content-type": "application/grpc",
        te: "trailers",
      });
      const timer =
        timeoutMs > 0
          ? setTimeout(() => finish(new GrpcError(4, `${method} gave no answer in ${timeoutMs / 1000} s`)), timeoutMs)
          : undefined;
      const callOff = () => finish(new GrpcError(1, `${method} was called off`));
      signal?.addEventListener("abort", callOff, { once: true });
      let done = false;
      const finish = (failure?: Error) => {
        if (done) return;
        done = true;
        clearTimeout(timer);
        signal?.removeEventListener("abort", callOff);
        if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
        if (failure) reject(failure);
        else resolve();
      };
      readMessages(stream, each);
      let status: [number, string] | undefined;
      const take = (headers: Record<string, unknown>) => {
        if (headers["grpc-status"] !== undefined)
          status = [Number(headers["grpc-status"]), decodeURIComponent(String(headers["grpc-message"] ?? ""))];
      };
      stream.on("response", take);
      stream.on("trailers", take);
      stream.on("error", (err) => finish(new GrpcError(unavailable, `Cannot reach ${this.#path}: ${err.message}`)));
      stream.on("close", () => {
        if (status?.[0] === 0) finish();
        else
          finish(
            status
              ? new GrpcError(...status)
              : new GrpcError(unavailable, `Cannot reach ${this.#path}: the connection ended`),
          );
      });
      stream.end(frame(request));
    });
  }

  #open(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const session = connectHttp2("http://localhost", { createConnection: () => connect(this.#path) });
    session.on("error", () => {}); // every call under way hears of it by its own stream
    session.on("close", () => (this.#session = this.#session === session ? undefined : this.#session));
    this.#session = session;
    return session;
  }
}

function frame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function readMessages(stream: ClientHttp2Stream, each: (message: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 5) {
      const end = 5 + rest.readUInt32BE(1);
      if (rest.length < end) return;
      each(rest.subarray(5, end));
      rest = rest.subarray(end);
    }
  });
}
