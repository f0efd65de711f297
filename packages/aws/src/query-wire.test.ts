import assert from "node:assert/strict";
import { test } from "node:test";
import { ec2Table } from "./generated/ec2-table.ts";
import { stsTable } from "./generated/sts-table.ts";
import { encodeForm, parseOutput, parseXmlError } from "./query-wire.ts";

test("lists and structures are flattened with EC2's names", () => {
  const body = encodeForm(ec2Table, "CreateNetworkInterface", {
    SubnetId: "subnet-1",
    Groups: ["sg-1", "sg-2"],
    SecondaryPrivateIpAddressCount: 9,
    ClientToken: "t",
    TagSpecifications: [{ ResourceType: "network-interface", Tags: [{ Key: "a", Value: "b c" }] }],
  });
  assert.deepEqual(body.split("&"), [
    "Action=CreateNetworkInterface",
    "Version=2016-11-15",
    "SubnetId=subnet-1",
    "SecurityGroupId.1=sg-1",
    "SecurityGroupId.2=sg-2",
    "SecondaryPrivateIpAddressCount=9",
    "ClientToken=t",
    "TagSpecification.1.ResourceType=network-interface",
    "TagSpecification.1.Tag.1.Key=a",
    "TagSpecification.1.Tag.1.Value=b%20c",
  ]);
});

test("an idempotency token is filled once per call", () => {
  const token = () =>
    new URLSearchParams(encodeForm(ec2Table, "CreateNetworkInterface", { SubnetId: "s" })).get("ClientToken");
  assert.match(token() ?? "", /^[0-9a-f-]{36}$/);
  assert.notEqual(token(), token());
});

test("a member the model does not know is a programming mistake", () => {
  assert.throws(() => encodeForm(ec2Table, "DescribeSubnets", { SubnetID: "x" }), /no such member/);
});

test("an EC2 answer becomes model values", () => {
  const xml = `<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><networkInterfaceSet><item>
    <networkInterfaceId>eni-1</networkInterfaceId><attachment><deviceIndex>1</deviceIndex><deleteOnTermination>true</deleteOnTermination>
    <attachTime>2026-01-02T03:04:05.000Z</attachTime></attachment><groupSet/><tagSet><item><key>k</key><value/></item></tagSet></item></networkInterfaceSet></DescribeNetworkInterfacesResponse>`;
  assert.deepEqual(parseOutput(ec2Table, "DescribeNetworkInterfaces", xml), {
    NetworkInterfaces: [
      {
        Attachment: { AttachTime: new Date("2026-01-02T03:04:05Z"), DeleteOnTermination: true, DeviceIndex: 1 },
        Groups: [],
        NetworkInterfaceId: "eni-1",
        TagSet: [{ Key: "k", Value: "" }],
      },
    ],
  });
});

test("a query answer is read out of its wrapper", () => {
  const xml = `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>a</Arn><UserId>u</UserId><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`;
  assert.deepEqual(parseOutput(stsTable, "GetCallerIdentity", xml), { UserId: "u", Account: "1", Arn: "a" });
});

test("errors of both XML protocols are understood", () => {
  const ec2 = `<Response><Errors><Error><Code>C</Code><Message>it's</Message></Error></Errors><RequestID>r</RequestID></Response>`;
  const query = `<ErrorResponse><Error><Type>Sender</Type><Code>C</Code><Message>it&apos;s</Message></Error><RequestId>r</RequestId></ErrorResponse>`;
  for (const body of [ec2, query])
    assert.deepEqual(parseXmlError(body), { code: "C", message: "it's", requestId: "r" });
  assert.equal(parseXmlError("<html>"), undefined);
});
