/**
 * A TCP flow that notices a gap: `serve PORT` sends a growing number every 20 ms to whoever connects; `read HOST PORT` follows one
 * connection, prints what it got every second, and exits 1 when a number is missing or the connection ends.
 */
import net from "node:net";

const [mode, ...args] = process.argv.slice(2);

if (mode === "serve") serve(Number(args[0]));
else if (mode === "read") read(args[0] ?? "", Number(args[1]));
else throw new Error("usage: flow.ts serve PORT | read HOST PORT");

function serve(port: number): void {
  net
    .createServer((socket) => {
      let next = 0;
      const timer = setInterval(() => socket.write(`${next++}\n`), 20);
      socket.on("close", () => clearInterval(timer));
      socket.on("error", () => socket.destroy());
    })
    .listen(port, () => console.log(`serving on ${port}`));
}

function read(host: string, port: number): void {
  let expected = 0;
  let rest = "";
  const socket = net.connect({ host, port });
  socket.on("data", (chunk) => {
    const lines = (rest + chunk.toString("latin1")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (Number(line) !== expected) fail(`got ${line}, expected ${expected}`);
      expected++;
    }
  });
  socket.on("close", () => fail("the connection ended"));
  socket.on("error", (err) => fail(err.message));
  setInterval(() => console.log(`${expected} without a gap`), 1000);
}

function fail(why: string): never {
  console.log(`BROKEN: ${why}`);
  process.exit(1);
}
