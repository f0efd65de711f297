/**
 * Port-forward: SPDY streams (plain or tunnelled in a WebSocket) and client-node's legacy WebSocket, joined to one legacy
 * WebSocket a connection at the kubelet (`?ports=N`): channel 0 data, 1 errors, the first message on each is the port.
 * Half-close: the message 255, 0 says that no more data will come that way, as close messages of `v5.channel.k8s.io` do.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { badRequest } from "../api-error.ts";
import { acceptSpdy, spdyOverWebSocket, wantsSpdy, type SpdyClient } from "./client-spdy.ts";
import { acceptWebSocket, bytesOf, channelProtocols, offeredProtocols, tunnelProtocol } from "./client-websocket.ts";
import { congestion } from "./congestion.ts";
import type { SpdyStream } from "./spdy.ts";

const spdyVersion = "portforward.k8s.io";
const closeChannel = 255;

/** Opens the kubelet's socket for one connection to a port; it comes paused. */
export type OpenPort = (port: number) => Promise<WebSocket>;

/** Joins an upgrade request to the pod's ports; the session then lives by itself. */
export async function joinPortForward(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  query: URLSearchParams,
  open: OpenPort,
): Promise<void> {
  if (wantsSpdy(request)) {
    const pairs = new Pairs(open);
    pairs.client = acceptSpdy(request, socket, head, spdyVersion, (stream) => pairs.add(stream));
    return;
  }
  const offered = offeredProtocols(request);
  if (offered.includes(tunnelProtocol)) {
    const pairs = new Pairs(open);
    pairs.client = spdyOverWebSocket(await acceptWebSocket(request, socket, head, tunnelProtocol), (stream) =>
      pairs.add(stream),
    );
    return;
  }
  const ports = query
    .getAll("ports")
    .flatMap((text) => text.split(","))
    .map(Number);
  if (ports.length === 0 || ports.some((port) => !(port > 0 && port < 65536)))
    throw badRequest('query parameter "ports" is required');
  const protocol = channelProtocols.find((candidate) => offered.includes(candidate));
  const kubelets = await Promise.all(ports.map(open));
  joinLegacy(await acceptWebSocket(request, socket, head, protocol), kubelets);
}

/** Channels 2i and 2i+1 of the client are 0 and 1 of its i-th port's socket. */
function joinLegacy(client: WebSocket, kubelets: readonly WebSocket[]): void {
  const congestions = kubelets.map((kubelet) => congestion(kubelet, () => client.bufferedAmount));
  const fromClient = congestion(client, () => Math.max(...kubelets.map((kubelet) => kubelet.bufferedAmount)));
  client.on("message", (data) => {
    const bytes = Buffer.from(bytesOf(data));
    if (bytes[0] === closeChannel)
      return kubelets[(bytes[1] ?? 0) >> 1]?.send(Buffer.from([closeChannel, (bytes[1] ?? 0) & 1]));
    const kubelet = kubelets[(bytes[0] ?? 0) >> 1];
    if (kubelet?.readyState !== kubelet?.OPEN) return;
    bytes[0] = (bytes[0] ?? 0) & 1;
    kubelet?.send(bytes);
    fromClient.check();
  });
  for (const [index, kubelet] of kubelets.entries()) {
    kubelet.on("message", (data) => {
      const bytes = Buffer.from(bytesOf(data));
      // client-node knows no half-close: the channel just falls silent.
      if (bytes[0] === closeChannel) return;
      bytes[0] = index * 2 + (bytes[0] ?? 0);
      if (client.readyState === client.OPEN) client.send(bytes);
      congestions[index]?.check();
    });
    kubelet.on("close", () => {
      congestions[index]?.stop();
      if (kubelets.every((other) => other.readyState >= other.CLOSING)) client.close(1000);
    });
    kubelet.on("error", () => kubelet.terminate());
  }
  client.on("error", () => client.terminate());
  client.on("close", () => {
    fromClient.stop();
    for (const kubelet of kubelets) kubelet.close(1000);
  });
  client.resume();
  for (const kubelet of kubelets) kubelet.resume();
}

/** SPDY: an error and a data stream with the same request id make one connection. */
class Pairs {
  client: SpdyClient | undefined;
  readonly #open: OpenPort;
  readonly #half = new Map<string, { error?: SpdyStream; data?: SpdyStream }>();

  constructor(open: OpenPort) {
    this.#open = open;
  }

  add(stream: SpdyStream): void {
    const id = stream.headers["requestid"] ?? String(stream.id - (stream.headers["streamtype"] === "data" ? 2 : 0));
    const pair = this.#half.get(id) ?? {};
    this.#half.set(id, pair);
    if (stream.headers["streamtype"] === "error") pair.error = stream;
    else pair.data = stream;
    if (!pair.error || !pair.data) return;
    this.#half.delete(id);
    void this.#connect(pair.error, pair.data);
  }

  async #connect(error: SpdyStream, data: SpdyStream): Promise<void> {
    error.listen(() => {});
    const port = Number(data.headers["port"]);
    let kubelet: WebSocket;
    try {
      kubelet = await this.#open(port);
    } catch (failure) {
      error.write(Buffer.from(failure instanceof Error ? failure.message : String(failure)));
      error.end();
      data.end();
      return;
    }
    this.#join(error, data, kubelet);
  }

  #join(error: SpdyStream, data: SpdyStream, kubelet: WebSocket): void {
    const client = this.client!;
    const fromKubelet = congestion(kubelet, () => client.connection.buffered());
    const fromClient = congestion(client, () => kubelet.bufferedAmount);
    const announced = [false, false];
    kubelet.on("message", (message) => {
      const bytes = bytesOf(message);
      if (bytes[0] === closeChannel) return data.end();
      const which = (bytes[0] ?? 0) & 1;
      if (!announced[which]) {
        // The first message on a channel only repeats the port.
        announced[which] = true;
        return;
      }
      const payload = bytes.subarray(1);
      if (which === 1) error.write(payload);
      else data.write(payload);
      fromKubelet.check();
    });
    const toKubelet = (channel: number, chunk: Buffer) => {
      if (kubelet.readyState === kubelet.OPEN) kubelet.send(Buffer.concat([Buffer.from([channel]), chunk]));
      fromClient.check();
    };
    data.listen(
      (chunk) => toKubelet(0, chunk),
      () => toKubelet(closeChannel, Buffer.from([0])),
    );
    kubelet.on("close", () => {
      fromKubelet.stop();
      fromClient.stop();
      data.end();
      error.end();
    });
    kubelet.on("error", () => kubelet.terminate());
    client.onClose(() => kubelet.close(1000));
    kubelet.resume();
  }
}
