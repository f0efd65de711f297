/** Go's words for a connection that could not be made; kubectl prints them as they are. */
export function dialErrorText(error: unknown, address: string, port: number): string {
  const failure = error as NodeJS.ErrnoException;
  const to = `${address.includes(":") ? `[${address}]` : address}:${port}`;
  if (failure.name === "TimeoutError" || failure.name === "AbortError") return `dial tcp ${to}: i/o timeout`;
  switch (failure.code) {
    case "ECONNREFUSED":
      return `dial tcp ${to}: connect: connection refused`;
    case "EHOSTUNREACH":
      return `dial tcp ${to}: connect: no route to host`;
    case "ENETUNREACH":
      return `dial tcp ${to}: connect: network is unreachable`;
    case "ETIMEDOUT":
      return `dial tcp ${to}: connect: connection timed out`;
    case "ECONNRESET":
      return `read tcp ${to}: read: connection reset by peer`;
    default:
      if (/certificate|CERT_|altname/i.test(`${failure.code} ${failure.message}`)) {
        return `tls: failed to verify certificate: ${failure.message}`;
      }
      if (/handshake has timed out/.test(failure.message ?? "")) return `dial tcp ${to}: i/o timeout`;
      return failure.message || String(error);
  }
}
