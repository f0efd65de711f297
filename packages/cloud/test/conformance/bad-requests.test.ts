/** What a hostile or broken client gets: always the service's own error, never HTML, never a crash. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createEc2Client } from "@underlay/aws/ec2-client";
import { createEksClient } from "@underlay/aws/eks-client";
import { createStsClient } from "@underlay/aws/sts-client";
import { canonicalQuery, presign, signHeaders } from "@underlay/aws/sigv4";
import { keys, region, startCloud, type CloudProcess } from "../cloud-process.ts";

let cloud: CloudProcess;
before(async () => {
  cloud = await startCloud();
});
after(() => cloud.stop());

const form = "application/x-www-form-urlencoded";

async function post(body: string, headers: Record<string, string> = {}, path = "/") {
  const answer = await fetch(cloud.endpoint + path, {
    method: "POST",
    body,
    headers: { "content-type": form, ...headers },
  });
  return { status: answer.status, text: await answer.text(), type: answer.headers.get("content-type") ?? "" };
}

/** Signs a raw request for `service`. */
async function signed(
  service: string,
  request: { method?: string; path?: string; body?: string; contentType?: string; region?: string },
) {
  const { method = "POST", path = "/", body = "", contentType = form } = request;
  const url = new URL(cloud.endpoint + path);
  const headers = { host: url.host, "content-type": contentType };
  const query = [...url.searchParams] as [string, string][];
  const extra = signHeaders({ method, path: url.pathname, query, headers }, body, {
    keys,
    region: request.region ?? region,
    service,
    now: new Date(),
  });
  const answer = await fetch(url, { method, headers: { ...headers, ...extra }, ...(method === "GET" ? {} : { body }) });
  return { status: answer.status, text: await answer.text(), type: answer.headers.get("x-amzn-errortype") };
}

test("unsigned requests are refused in the format of the service they seem to mean", async () => {
  const ec2 = await post("Action=DescribeVpcs&Version=2016-11-15");
  assert.equal(ec2.status, 401);
  assert.match(ec2.text, /<Response><Errors><Error><Code>AuthFailure<\/Code>/);
  const sts = await post("Action=GetCallerIdentity&Version=2011-06-15");
  assert.equal(sts.status, 403);
  assert.match(sts.text, /<Code>MissingAuthenticationToken<\/Code>/);
  const eks = await fetch(`${cloud.endpoint}/clusters`);
  assert.deepEqual([eks.status, eks.headers.get("x-amzn-errortype")], [403, "MissingAuthenticationTokenException"]);
});

test("a wrong secret, an unknown key and a wrong region are refused with each service's codes", async () => {
  const bad = { region, endpoint: cloud.endpoint, maxAttempts: 1 };
  const wrongSecret = { ...bad, credentials: () => Promise.resolve({ ...keys, secretAccessKey: "no" }) };
  const unknownKey = { ...bad, credentials: () => Promise.resolve({ ...keys, accessKeyId: "AKIAUNKNOWN" }) };
  await assert.rejects(createEc2Client(wrongSecret).send("DescribeVpcs", {}), { code: "AuthFailure", status: 401 });
  await assert.rejects(createStsClient(wrongSecret).send("GetCallerIdentity", {}), {
    code: "SignatureDoesNotMatch",
    status: 403,
  });
  await assert.rejects(createEksClient(wrongSecret).send("ListClusters", {}), {
    code: "InvalidSignatureException",
    status: 403,
  });
  await assert.rejects(createStsClient(unknownKey).send("GetCallerIdentity", {}), {
    code: "InvalidClientTokenId",
    status: 403,
  });
  await assert.rejects(createEksClient(unknownKey).send("ListClusters", {}), {
    code: "UnrecognizedClientException",
    status: 403,
  });
  assert.match(
    (await signed("ec2", { body: "Action=DescribeVpcs&Version=2016-11-15", region: "eu-west-1" })).text,
    /AuthFailure/,
  );
});

test("a body that was changed after signing is refused", async () => {
  const headers = { host: new URL(cloud.endpoint).host, "content-type": form };
  const extra = signHeaders(
    { method: "POST", path: "/", query: [], headers },
    "Action=DescribeVpcs&Version=2016-11-15",
    { keys, region, service: "ec2", now: new Date() },
  );
  assert.equal((await post("Action=DescribeSubnets&Version=2016-11-15", extra)).status, 401);
});

test("an old signature has expired", async () => {
  const headers = { host: new URL(cloud.endpoint).host, "content-type": form };
  const body = "Action=DescribeVpcs&Version=2016-11-15";
  const old = new Date(Date.now() - 20 * 60_000);
  const extra = signHeaders({ method: "POST", path: "/", query: [], headers }, body, {
    keys,
    region,
    service: "ec2",
    now: old,
  });
  const answer = await post(body, extra);
  assert.deepEqual([answer.status, /<Code>(\w+)/.exec(answer.text)?.[1]], [400, "RequestExpired"]);
});

test("unknown actions and services answer in their own format with 400 or 404", async () => {
  const ec2 = await signed("ec2", { body: "Action=MakeCoffee&Version=2016-11-15" });
  assert.deepEqual([ec2.status, /<Code>(\w+)/.exec(ec2.text)?.[1]], [400, "InvalidAction"]);
  const sts = await signed("sts", { body: "Action=MakeCoffee&Version=2011-06-15" });
  assert.deepEqual([sts.status, /<ErrorResponse.*<Code>(\w+)/.exec(sts.text)?.[1]], [400, "InvalidAction"]);
  const eks = await signed("eks", { path: "/coffee", contentType: "application/json" });
  assert.deepEqual([eks.status, eks.type], [404, "UnknownOperationException"]);
  const rds = await signed("rds", { body: "Action=DescribeDBInstances&Version=2014-10-31" });
  assert.deepEqual([rds.status, /<Code>(\w+)/.exec(rds.text)?.[1]], [400, "InvalidAction"]);
  const missing = await signed("ec2", { body: "Version=2016-11-15" });
  assert.deepEqual([missing.status, /<Code>(\w+)/.exec(missing.text)?.[1]], [400, "MissingAction"]);
});

test("malformed and oversized bodies are refused, and the server goes on", async () => {
  const bad = await signed("eks", { path: "/clusters", contentType: "application/json", body: "{not json" });
  assert.deepEqual([bad.status, bad.type], [400, "SerializationException"]);
  const wrongType = await signed("eks", { path: "/clusters", contentType: "application/json", body: '{"name":7}' });
  assert.deepEqual([wrongType.status, wrongType.type], [400, "InvalidParameterException"]);
  const notNumber = await signed("ec2", { body: "Action=DescribeSubnets&Version=2016-11-15&MaxResults=many" });
  assert.match(notNumber.text, /InvalidParameterValue/);
  const large = await signed("ec2", {
    body: `Action=DescribeSubnets&Version=2016-11-15&Junk=${"x".repeat(9_000_000)}`,
  });
  assert.equal(large.status, 413);
  const unknownParameter = await signed("ec2", { body: "Action=DescribeVpcs&Version=2016-11-15&FutureThing=1" });
  assert.equal(unknownParameter.status, 200, "newer clients send more");
});

test("a presigned GetCallerIdentity answers, and only for the signed headers", async () => {
  const url = new URL(cloud.endpoint);
  const ask = async (clusterSigned: string, clusterSent: string) => {
    const query = presign(
      {
        method: "GET",
        path: "/",
        query: [
          ["Action", "GetCallerIdentity"],
          ["Version", "2011-06-15"],
        ],
        headers: { host: url.host, "x-k8s-aws-id": clusterSigned },
      },
      { keys, region, service: "sts", now: new Date(), expiresSeconds: 60 },
    );
    const answer = await fetch(`${cloud.endpoint}/?${canonicalQuery(query)}`, {
      headers: { "x-k8s-aws-id": clusterSent },
    });
    return { status: answer.status, text: await answer.text() };
  };
  const good = await ask("demo", "demo");
  assert.equal(good.status, 200);
  assert.match(good.text, /<Arn>arn:aws:iam::111122223333:user\/underlay<\/Arn>/);
  assert.equal((await ask("demo", "other")).status, 403);
});
