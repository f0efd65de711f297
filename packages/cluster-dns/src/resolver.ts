/** One question to one reply: the cluster's zones by `records.ts`, everything else by the forwarder. */
import type { Answer } from "dns-packet";
import type { DnsSettings } from "./corefile.ts";
import type { Forwarder, Reply } from "./forwarder.ts";
import { answerReverse, answerZone, type ClusterView, type Question, type ZoneAnswer } from "./records.ts";

export type Resolver = (question: Question) => Promise<Reply & { readonly authoritative: boolean }>;

export function createResolver(options: { settings: DnsSettings; view: ClusterView; forwarder: Forwarder }): Resolver {
  const { settings, view, forwarder } = options;
  let turn = 0;
  return async (question) => {
    const name = question.name.toLowerCase();
    if (isInZone(name, settings.zone)) return fromZone(answerZone(question, settings, view));
    if (settings.reverseZones.some((zone) => isInZone(name, zone))) {
      const answer = answerReverse(question, settings, view);
      if (answer) return fromZone(answer);
    }
    return { ...(await forwarder.ask(question)), authoritative: false };
  };

  async function fromZone(answer: ZoneAnswer): Promise<Reply & { authoritative: boolean }> {
    const base = { authoritative: true, additionals: [] as Answer[] };
    switch (answer.kind) {
      case "records":
        return {
          ...base,
          rcode: "NOERROR",
          answers: rotate([...answer.answers]),
          authorities: [],
          additionals: [...answer.additionals],
        };
      case "alias": {
        const followed = await forwarder.ask(answer.follow);
        return {
          ...base,
          rcode: "NOERROR",
          answers: [...answer.answers, ...(followed.answers ?? [])],
          authorities: [],
        };
      }
      case "no-data":
        return { ...base, rcode: "NOERROR", answers: [], authorities: [startOfAuthority(settings)] };
      case "no-name":
        return { ...base, rcode: "NXDOMAIN", answers: [], authorities: [startOfAuthority(settings)] };
    }
  }

  function rotate(answers: Answer[]): Answer[] {
    if (!settings.rotate || answers.length < 2) return answers;
    const from = turn++ % answers.length;
    return [...answers.slice(from), ...answers.slice(0, from)];
  }
}

function isInZone(name: string, zone: string): boolean {
  return name === zone || name.endsWith(`.${zone}`);
}

function startOfAuthority(settings: DnsSettings): Answer {
  return {
    type: "SOA",
    name: settings.zone,
    ttl: settings.ttlSeconds,
    data: {
      mname: `ns.dns.${settings.zone}`,
      rname: `hostmaster.${settings.zone}`,
      serial: Math.floor(Date.now() / 1000),
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: settings.ttlSeconds,
    },
  };
}
