import assert from "node:assert/strict";
import { test } from "node:test";
import { negotiate } from "./media-types.ts";
import { parseResourcePath } from "./request-path.ts";

for (const [path, expected] of [
  ["/api/v1/pods", "|v1||pods|||"],
  ["/api/v1/namespaces/n/pods/p/log", "|v1|n|pods|p|log|"],
  ["/apis/apps/v1/namespaces/n/deployments/d/scale", "apps|v1|n|deployments|d|scale|"],
  ["/api/v1/namespaces", "|v1||namespaces|||"],
  ["/api/v1/namespaces/n", "|v1||namespaces|n||"],
  ["/api/v1/namespaces/n/finalize", "|v1||namespaces|n|finalize|"],
  ["/api/v1/namespaces/n/pods/p/proxy/a/b", "|v1|n|pods|p|proxy|/a/b"],
  ["/api/v1/nodes/n1/status", "|v1||nodes|n1|status|"],
  ["/apis/apps/v1/deployments/", "apps|v1||deployments|||"],
] as [string, string][]) {
  test(`path ${path}`, () => {
    const p = parseResourcePath(path)!;
    assert.equal([p.group, p.version, p.namespace, p.plural, p.name, p.subresource, p.rest].join("|"), expected);
  });
}

test("paths that are no resources", () => {
  for (const path of ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/healthz"])
    assert.equal(parseResourcePath(path), undefined);
});

test("the first acceptable media type wins", () => {
  assert.equal(negotiate("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").as, "Table");
  assert.equal(negotiate("application/vnd.kubernetes.protobuf,application/json").as, "object");
  assert.equal(
    negotiate(
      "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
    ).as,
    "PartialObjectMetadata",
  );
  assert.throws(() => negotiate("text/html"), /only the following media types are accepted/);
});
