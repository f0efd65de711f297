/** The runtime's streaming server (the URL a CRI Exec or Attach answers), over `v4.channel.k8s.io` WebSockets. */
import { WebSocket } from "ws";
import type { AttachedStreams } from "../kubelet/runtime.ts";

const protocol = "v4.channel.k8s.io";
/** Channels as Kubernetes numbers them. */
export const channels = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4 } as const;

/** The open connection; input that comes earlier waits. */
export function openStream(url: Promise<string>): {
  send(channel: number, data: Buffer): void;
  on(each: (channel: number, data: Buffer) => void): void;
  onClose(done: () => void): void;
  close(): void;
} {
  const waiting: Buffer[] = [];
  let listener: (channel: number, data: Buffer) => void = () => {};
  let closed: () => void = () => {};
  let socket: WebSocket | undefined;
  let over = false;
  url.then(
    (address) => {
      socket = new WebSocket(address.replace(/^http/, "ws"), [protocol]);
      socket.on("open", () => {
        for (const data of waiting.splice(0)) socket?.send(data);
        if (over) socket?.close();
      });
      socket.on("message", (data: Buffer) => listener(data[0] ?? 0, data.subarray(1)));
      socket.on("error", () => {});
      socket.on("close", () => closed());
    },
    (err: unknown) => {
      listener(channels.status, Buffer.from(JSON.stringify({ status: "Failure", message: String(err) })));
      closed();
    },
  );
  return {
    send: (channel, data) => {
      const message = Buffer.concat([Buffer.from([channel]), data]);
      if (socket?.readyState === WebSocket.OPEN) socket.send(message);
      else if (!socket || socket.readyState === WebSocket.CONNECTING) waiting.push(message);
    },
    on: (each) => (listener = each),
    onClose: (done) => (closed = done),
    close: () => {
      over = true;
      if (socket?.readyState === WebSocket.OPEN) socket.close();
    },
  };
}

export function attachStreams(url: Promise<string>): AttachedStreams {
  const stream = openStream(url);
  return {
    onOutput: (each) =>
      stream.on((channel, data) => {
        if (data.length > 0 && (channel === channels.stdout || channel === channels.stderr)) each(channel, data);
      }),
    onClose: (done) => stream.onClose(done),
    write: (data) => stream.send(channels.stdin, data),
    // This protocol cannot end the input alone; the container keeps it open until the attachment goes.
    endInput: () => {},
    resize: (width, height) =>
      stream.send(channels.resize, Buffer.from(JSON.stringify({ Width: width, Height: height }))),
    close: () => stream.close(),
  };
}
