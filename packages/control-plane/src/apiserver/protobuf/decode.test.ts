import assert from "node:assert/strict";
import { test } from "node:test";
import protobuf from "protobufjs/minimal.js";
import { decodeProtobuf } from "./decode.ts";

type Field = [number, string | number | boolean | Field[]];

/** Writes fields in protobuf form: strings, varints and nested messages. */
function message(fields: Field[]): Uint8Array {
  const writer = protobuf.Writer.create();
  for (const [number, value] of fields) {
    if (typeof value === "string") writer.uint32((number << 3) | 2).string(value);
    else if (typeof value === "number") writer.uint32(number << 3).int64(value);
    else if (typeof value === "boolean") writer.uint32(number << 3).bool(value);
    else writer.uint32((number << 3) | 2).bytes(message(value));
  }
  return writer.finish();
}

function envelope(apiVersion: string, kind: string, fields: Field[]): Uint8Array {
  const raw = message(fields);
  const writer = protobuf.Writer.create();
  writer.uint32((1 << 3) | 2).bytes(
    message([
      [1, apiVersion],
      [2, kind],
    ]),
  );
  writer.uint32((2 << 3) | 2).bytes(raw);
  return Buffer.concat([Buffer.from("k8s\0"), writer.finish()]);
}

test("decodeProtobuf drops zero scalars, keeps pointers and flattens inlined structs", () => {
  const body = envelope("v1", "Pod", [
    [
      1,
      [
        [1, "web"],
        [8, []],
        [
          11,
          [
            [1, "app"],
            [2, "web"],
          ],
        ],
      ],
    ],
    [
      2,
      [
        [
          1,
          [
            [1, "cfg"],
            [2, [[19, [[1, [[1, "settings"]]]]]]],
          ],
        ],
        [
          2,
          [
            [1, "main"],
            [2, "nginx"],
            [
              6,
              [
                [1, ""],
                [2, 0],
                [3, 80],
                [4, "TCP"],
              ],
            ],
            [
              8,
              [
                [
                  2,
                  [
                    [1, "cpu"],
                    [2, [[1, "100m"]]],
                  ],
                ],
              ],
            ],
            [
              10,
              [
                [
                  1,
                  [
                    [
                      2,
                      [
                        [1, "/health"],
                        [
                          2,
                          [
                            [1, 1],
                            [2, 0],
                            [3, "http"],
                          ],
                        ],
                      ],
                    ],
                  ],
                ],
                [2, 5],
              ],
            ],
          ],
        ],
        [4, 0],
        [10, ""],
        [11, false],
        [30, false],
      ],
    ],
  ]);
  assert.deepEqual(decodeProtobuf(body), {
    ok: true,
    object: {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "web", labels: { app: "web" } },
      spec: {
        volumes: [{ name: "cfg", configMap: { name: "settings" } }],
        containers: [
          {
            name: "main",
            image: "nginx",
            ports: [{ containerPort: 80, protocol: "TCP" }],
            resources: { requests: { cpu: "100m" } },
            livenessProbe: { httpGet: { path: "/health", port: "http" }, initialDelaySeconds: 5 },
          },
        ],
        terminationGracePeriodSeconds: 0,
        enableServiceLinks: false,
      },
    },
  });
});

test("decodeProtobuf finds meta kinds whatever their apiVersion", () => {
  assert.deepEqual(
    decodeProtobuf(
      envelope("apps/v1", "DeleteOptions", [
        [1, 0],
        [4, "Background"],
      ]),
    ),
    {
      ok: true,
      object: { apiVersion: "apps/v1", kind: "DeleteOptions", gracePeriodSeconds: 0, propagationPolicy: "Background" },
    },
  );
});

test("decodeProtobuf keeps six digits of a MicroTime", () => {
  const decoded = decodeProtobuf(
    envelope("coordination.k8s.io/v1", "Lease", [
      [
        2,
        [
          [1, "me"],
          [2, 15],
          [
            4,
            [
              [1, 1700000000],
              [2, 123456789],
            ],
          ],
        ],
      ],
    ]),
  );
  assert.ok(decoded.ok);
  assert.deepEqual(decoded.object["spec"], {
    holderIdentity: "me",
    leaseDurationSeconds: 15,
    renewTime: "2023-11-14T22:13:20.123456Z",
  });
});

test("decodeProtobuf tells unsupported kinds from malformed bodies", () => {
  const unknown = decodeProtobuf(envelope("example.com/v1", "Thing", []));
  assert.equal(unknown.ok === false && unknown.why, "unsupported");
  const noMagic = decodeProtobuf(Buffer.from("{}"));
  assert.equal(noMagic.ok === false && noMagic.why, "malformed");
  const cut = envelope("v1", "Pod", [[1, [[1, "web"]]]]);
  const truncated = decodeProtobuf(cut.subarray(0, cut.length - 2));
  assert.equal(truncated.ok === false && truncated.why, "malformed");
});
