/** The cloud's faults, asked for through its host door with the operator's key. What each field means: the cloud's README. */
import { UnderlayError } from "@underlay/log/underlay-error";
import type { ClusterRecord } from "./places.ts";

export type Fault = { readonly id: string; readonly kind: string; readonly [field: string]: unknown };

export async function listFaults(record: ClusterRecord): Promise<Fault[]> {
  return ((await ask(record, "GET", "")) as { faults: Fault[] }).faults;
}

export async function setFault(record: ClusterRecord, fault: Readonly<Record<string, unknown>>): Promise<Fault> {
  return ((await ask(record, "POST", "", fault)) as { fault: Fault }).fault;
}

/** One, or all; how many went. */
export async function clearFaults(record: ClusterRecord, id: string | undefined): Promise<number> {
  return ((await ask(record, "DELETE", id === undefined ? "" : `/${id}`)) as { cleared: number }).cleared;
}

async function ask(record: ClusterRecord, method: string, path: string, body?: object): Promise<unknown> {
  const url = `http://127.0.0.1:${record.apiPort}/_underlay/faults${path}`;
  const response = await fetch(url, {
    method,
    headers: { authorization: `Bearer ${record.secretAccessKey}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  }).catch((cause: unknown) => {
    throw new UnderlayError("NoCloud", `Cannot reach the cloud on 127.0.0.1:${record.apiPort}`, {
      cause,
      hint: "./underlay status",
    });
  });
  const answer = (await response.json()) as { code?: string; message?: string };
  if (!response.ok) throw new UnderlayError(answer.code ?? "FaultRefused", answer.message ?? `HTTP ${response.status}`);
  return answer;
}
