/** What a container said about its end: the termination message file, or the end of its log. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import type { Container } from "@underlay/kube/objects";
import type { ContainerState } from "./shim-client.ts";

const longestMessage = 4096;
const longestLogTail = 2048;
const mostLogLines = 80;

export function terminationMessage(
  container: Container,
  state: ContainerState,
  from: { file: string; log: string },
): string {
  const text = readTail(from.file, longestMessage);
  if (text !== "") return text;
  if (container.terminationMessagePolicy !== "FallbackToLogsOnError" || state.exitCode === 0) return "";
  // Each log line is "<time> <stream> <F|P> <text>".
  const lines = readTail(from.log, longestLogTail * 4)
    .split("\n")
    .filter(Boolean);
  return lines
    .slice(-mostLogLines)
    .map((line) => line.split(" ").slice(3).join(" "))
    .join("\n")
    .slice(-longestLogTail);
}

function readTail(file: string, size: number): string {
  try {
    const length = statSync(file).size;
    if (length <= size) return readFileSync(file, "utf8");
    const fd = openSync(file, "r");
    const buffer = Buffer.alloc(size);
    readSync(fd, buffer, 0, size, length - size);
    closeSync(fd);
    return buffer.toString("utf8");
  } catch {
    return "";
  }
}
