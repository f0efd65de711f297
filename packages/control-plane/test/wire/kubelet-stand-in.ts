/**
 * A small real kubelet end for the streaming tests: TLS with a client certificate required, upstream's paths, real processes
 * for exec, a real TCP connection for port-forward, and log lines that a test adds while they are followed.
 */
import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import { connect, type AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { issueLeaf } from "@underlay/pki/authority";
import { WebSocketServer, type WebSocket } from "ws";

export class KubeletStandIn {
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] ?? false });
  readonly #lines: string[] = [];
  readonly #added = new EventEmitter();
  /** What the last client was, and the paths asked for. */
  readonly clients: string[] = [];
  readonly paths: string[] = [];

  private constructor(server: Server) {
    this.#server = server;
    server.on("request", (request: IncomingMessage, response: ServerResponse) => this.#request(request, response));
    server.on("upgrade", (request: IncomingMessage, socket, head) => {
      this.#note(request);
      this.#sockets.handleUpgrade(request, socket, head, (client) => {
        const url = new URL(request.url!, "https://kubelet");
        if (url.pathname.startsWith("/portForward/")) this.#portForward(client, Number(url.searchParams.get("ports")));
        else
          this.#command(
            client,
            url.searchParams,
            url.pathname.startsWith("/attach/")
              ? ["sh", "-c", "echo attached; cat"]
              : url.searchParams.getAll("command"),
          );
      });
    });
  }

  static async start(authority: { cert: string; key: string }): Promise<KubeletStandIn> {
    const leaf = await issueLeaf(authority, { commonName: "system:node:test", names: ["127.0.0.1"], usage: "server" });
    const server = createServer({ ...leaf, ca: [authority.cert], requestCert: true, rejectUnauthorized: true });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new KubeletStandIn(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  log(line: string): void {
    this.#lines.push(line);
    this.#added.emit("line", line);
  }

  async close(): Promise<void> {
    for (const client of this.#sockets.clients) client.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #note(request: IncomingMessage): void {
    const { subject } = (request.socket as TLSSocket).getPeerCertificate();
    this.clients.push(`CN=${subject.CN},O=${subject.O}`);
    this.paths.push(request.url ?? "");
  }

  #request(request: IncomingMessage, response: ServerResponse): void {
    this.#note(request);
    const url = new URL(request.url!, "https://kubelet");
    if (!url.pathname.startsWith("/containerLogs/")) return void response.writeHead(404).end("404 page not found");
    if (url.pathname.endsWith("/waiting")) {
      return void response
        .writeHead(400)
        .end('container "waiting" in pod "web" is waiting to start: ContainerCreating');
    }
    response.writeHead(200, { "content-type": "text/plain" });
    const tail = url.searchParams.get("tailLines");
    for (const line of tail === null ? this.#lines : this.#lines.slice(this.#lines.length - Number(tail)))
      response.write(`${line}\n`);
    if (!url.searchParams.has("follow")) return void response.end();
    const follow = (line: string) => response.write(`${line}\n`);
    this.#added.on("line", follow);
    response.on("close", () => this.#added.off("line", follow));
  }

  #command(client: WebSocket, query: URLSearchParams, [program, ...args]: readonly string[]): void {
    const child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"] });
    const send = (channel: number, bytes: Buffer) => client.send(Buffer.concat([Buffer.from([channel]), bytes]));
    if (query.get("output")) child.stdout.on("data", (chunk: Buffer) => send(1, chunk));
    if (query.get("error")) child.stderr.on("data", (chunk: Buffer) => send(2, chunk));
    child.stdin.on("error", () => {});
    if (!query.get("input")) child.stdin.end();
    client.on("message", (data: Buffer) => {
      if (data[0] === 0) child.stdin.write(data.subarray(1));
      else if (data[0] === 4) send(1, Buffer.concat([Buffer.from("resized "), data.subarray(1), Buffer.from("\n")]));
      else if (data[0] === 255 && data[1] === 0) child.stdin.end();
    });
    client.on("close", () => child.kill());
    child.on("error", (error) => {
      send(
        3,
        Buffer.from(JSON.stringify({ status: "Failure", reason: "InternalError", message: error.message, code: 500 })),
      );
      client.close(1000);
    });
    child.on("close", (code) => {
      const status =
        code === 0
          ? { metadata: {}, status: "Success" }
          : {
              metadata: {},
              status: "Failure",
              reason: "NonZeroExitCode",
              message: `command terminated with non-zero exit code: exit status ${code}`,
              details: { causes: [{ reason: "ExitCode", message: String(code) }] },
            };
      send(3, Buffer.from(JSON.stringify(status)));
      client.close(1000);
    });
  }

  #portForward(client: WebSocket, port: number): void {
    const announce = Buffer.alloc(2);
    announce.writeUInt16LE(port);
    const send = (channel: number, bytes: Buffer) => client.send(Buffer.concat([Buffer.from([channel]), bytes]));
    send(0, announce);
    send(1, announce);
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("data", (chunk: Buffer) => send(0, chunk));
    socket.on("end", () => client.send(Buffer.from([255, 0])));
    socket.on("close", () => client.close(1000));
    socket.on("error", (error) => {
      send(1, Buffer.from(`error forwarding port ${port} to pod, uid : ${error.message}`));
      client.close(1000);
    });
    client.on("message", (data: Buffer) => {
      if (data[0] === 255) socket.end();
      else if (data[0] === 0) socket.write(data.subarray(1));
    });
    client.on("close", () => socket.destroy());
  }
}
