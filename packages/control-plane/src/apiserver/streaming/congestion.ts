/** Keeps a fast sender from filling memory: pauses it while what it sent has not left, looks again shortly, and resumes it. */
const high = 1024 * 1024;
const low = 256 * 1024;
const lookAgainMs = 10;

/** Call `check` after each write. `buffered` is what the receiver's side still holds. */
export function congestion(
  source: { pause(): void; resume(): void },
  buffered: () => number,
): { check(): void; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    if (buffered() > low) {
      timer = setTimeout(look, lookAgainMs);
      return;
    }
    timer = undefined;
    source.resume();
  };
  return {
    check: () => {
      if (timer !== undefined || buffered() <= high) return;
      source.pause();
      timer = setTimeout(look, lookAgainMs);
    },
    stop: () => clearTimeout(timer),
  };
}
