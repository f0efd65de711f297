/** What the kernel refused: which operation, in which namespace, with which errno. */
export class KernelError extends Error {
  override readonly name: string = "KernelError";
  readonly operation: string;
  /** 'EEXIST', 'ENODEV', … */
  readonly errno: string;
  readonly netns: string | undefined;

  constructor(facts: { operation: string; errno: string; netns?: string | undefined; detail?: string | undefined }) {
    const place = facts.netns === undefined ? "" : ` (netns ${facts.netns})`;
    super(`Cannot ${facts.operation}${place}: ${facts.errno}, ${facts.detail ?? meaningOf(facts.errno)}`);
    this.operation = facts.operation;
    this.errno = facts.errno;
    this.netns = facts.netns;
  }
}

/** It is there already. */
export function isExists(error: unknown): boolean {
  return error instanceof KernelError && error.errno === "EEXIST";
}

const ABSENT = new Set(["ENOENT", "ENODEV", "ESRCH", "ENXIO", "EADDRNOTAVAIL"]);

/** It, or the thing it hangs on, is not there. */
export function isNotFound(error: unknown): boolean {
  return error instanceof KernelError && ABSENT.has(error.errno);
}

const MEANINGS: Record<string, string> = {
  EPERM: "not permitted (root, CAP_NET_ADMIN?)",
  ENOENT: "does not exist",
  ESRCH: "no such entry",
  EBADF: "bad descriptor",
  EACCES: "permission denied",
  EBUSY: "busy",
  EEXIST: "it already exists",
  ENODEV: "no such device",
  EINVAL: "the kernel says the arguments are invalid",
  ENOTCONN: "not connected",
  ERANGE: "out of range",
  EOPNOTSUPP: "this kernel does not support it",
  EADDRINUSE: "the address is in use",
  EADDRNOTAVAIL: "no such address here",
  ENETDOWN: "the link is down",
  ENETUNREACH: "no route there",
  ENOBUFS: "out of buffers or table entries",
};

function meaningOf(errno: string): string {
  return MEANINGS[errno] ?? "refused by the kernel";
}
