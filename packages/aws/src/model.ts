/**
 * The reduced service models: what each action takes and answers, and the names that travel on the wire.
 * One table serves our clients (serialise input, parse output) and the embedded cloud (parse input, serialise output).
 */
export type ServiceName = "ec2" | "eks" | "sts" | "autoscaling";

/** `[shape, requestName, responseName, flags]`; names absent: as the member. Flags: u path, q query string, h header, t idempotency token. */
export type MemberRow = [shape: string, inName?: string, outName?: string, flags?: string];

export type ShapeRow = {
  type: "structure" | "list" | "map" | "string";
  /** In the model's order, which is the order on the wire. */
  members?: Record<string, MemberRow>;
  required?: string[];
  /** The element shape of a list, the value shape of a map. */
  of?: string;
  /** XML element name of list items. */
  item?: string;
  /** A list without a wrapping element. */
  flat?: true;
  enum?: string[];
  error?: { status: number; code: string };
};

export type OperationRow = {
  method: string;
  uri: string;
  status?: number;
  input?: string;
  output?: string;
  wrapper?: string;
  pages?: { token: string; next: string; limit?: string };
};

export type ModelTable = {
  source: string;
  protocol: "ec2" | "query" | "rest-json";
  version: string;
  signingName: string;
  namespace?: string;
  operations: Record<string, OperationRow>;
  shapes: Record<string, ShapeRow>;
};
