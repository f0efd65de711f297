/** The few DynamoDB calls the carts service makes, over the JSON 1.0 protocol. A local endpoint checks no signature, but wants to see one. */
import { exchange } from "./http.ts";

export type AttributeValue = { S: string } | { N: string };
export type Item = Record<string, AttributeValue>;

export class DynamoError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

export async function dynamo<T>(endpoint: string, action: string, input: object): Promise<T> {
  const { status, text } = await exchange("POST", endpoint, JSON.stringify(input), {
    "content-type": "application/x-amz-json-1.0",
    "x-amz-target": `DynamoDB_20120810.${action}`,
    "x-amz-date": new Date().toISOString().replace(/[-:]|\.\d{3}/g, ""),
    authorization:
      "AWS4-HMAC-SHA256 Credential=key/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=0",
  });
  const answer = JSON.parse(text) as T & { __type?: string; message?: string };
  if (status < 400) return answer;
  throw new DynamoError((answer.__type ?? "").split("#").at(-1) ?? "Unknown", answer.message ?? "no message");
}
