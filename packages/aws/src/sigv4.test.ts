import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalQuery, presign, signHeaders } from "./sigv4.ts";

// From AWS's published Signature Version 4 test suite.
const keys = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
const options = { keys, region: "us-east-1", service: "service", now: new Date("2015-08-30T12:36:00Z") };
const headers = { host: "example.amazonaws.com" };

test("signing matches get-vanilla of the published test suite", () => {
  const { authorization } = signHeaders({ method: "GET", path: "/", query: [], headers }, "", options);
  assert.equal(
    authorization,
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, " +
      "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
  );
});

test("signing matches get-vanilla-query-order-key-case of the published test suite", () => {
  const query = [
    ["Param2", "value2"],
    ["Param1", "value1"],
  ] as const;
  const { authorization } = signHeaders({ method: "GET", path: "/", query, headers }, "", options);
  assert.match(authorization ?? "", /Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500$/);
});

test("signing matches post-vanilla of the published test suite", () => {
  const { authorization } = signHeaders({ method: "POST", path: "/", query: [], headers }, "", options);
  assert.match(authorization ?? "", /Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b$/);
});

test("a presigned query carries the session token and every header it signs", () => {
  const query = presign(
    {
      method: "GET",
      path: "/",
      query: [["Action", "GetCallerIdentity"]],
      headers: { ...headers, "x-k8s-aws-id": "demo" },
    },
    { ...options, keys: { ...keys, sessionToken: "a/token" }, expiresSeconds: 60 },
  );
  const text = canonicalQuery(query);
  assert.match(text, /X-Amz-SignedHeaders=host%3Bx-k8s-aws-id/);
  assert.match(text, /X-Amz-Security-Token=a%2Ftoken/);
  assert.match(text, /X-Amz-Signature=[0-9a-f]{64}/);
});
