/** What the store sells until someone changes the database: the rows the catalog's first migration writes. */

export type Product = {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly price: number;
  readonly tags: readonly string[];
};

export const products: readonly Product[] = [
  {
    id: "cc789f85-1476-452a-8100-9e74502198e0",
    name: "Subnet Compass",
    description: "Always points at the next free /28. Never at a reserved address.",
    price: 39,
    tags: ["travel", "instruments"],
  },
  {
    id: "87e89b11-d319-446d-b9be-50adcca5224a",
    name: "Pocket Router",
    description: "Longest prefix wins, fits every pocket.",
    price: 125,
    tags: ["instruments"],
  },
  {
    id: "4f18544b-70a5-4352-8e19-0d070f46745d",
    name: "Warm Pool Blanket",
    description: "Keeps nine spare addresses comfortable through the night.",
    price: 55,
    tags: ["home"],
  },
  {
    id: "79bce3f3-935f-4912-8c62-0d2f3e059405",
    name: "Elastic Suspenders",
    description: "Attach in seconds, detach with grace.",
    price: 29,
    tags: ["clothing"],
  },
  {
    id: "d27cf49f-b689-4a75-a249-d373e0330bb5",
    name: "Blackhole Coaster",
    description: "Everything put on it is gone. State: active.",
    price: 12,
    tags: ["home"],
  },
  {
    id: "d3104128-1d14-4465-99d3-8ab9267c687b",
    name: "Stateful Umbrella",
    description: "What went out under it may come back in.",
    price: 42,
    tags: ["travel", "clothing"],
  },
  {
    id: "d4edfedb-dbe9-4dd9-aae8-009489394955",
    name: "Five Reserved Chairs",
    description: "A set of ten, of which five are taken before you sit.",
    price: 310,
    tags: ["home"],
  },
  {
    id: "1ca35e86-4b4c-4124-b6b5-076ba4134d0d",
    name: "Trunk With Branches",
    description: "Solid oak, up to nine branches, each with a lock of its own.",
    price: 480,
    tags: ["home", "travel"],
  },
  {
    id: "631a3db5-ac07-492c-a994-8cd56923c112",
    name: "Jumbo Frame",
    description: "Nine thousand and one by one. Fits no other wall.",
    price: 90,
    tags: ["home"],
  },
  {
    id: "8757729a-c518-4356-8694-9e795a9b3237",
    name: "Cooldown Hourglass",
    description: "Thirty seconds, to the grain.",
    price: 18,
    tags: ["instruments"],
  },
  {
    id: "a1258cd2-176c-4507-ade6-746dab895625",
    name: "Gateway Doormat",
    description: "One-to-one, welcomes everybody who has an address.",
    price: 24,
    tags: ["home"],
  },
  {
    id: "b8a2f1d0-3c55-4b8e-9f6a-2f7c1de0aa31",
    name: "Metadata Mug",
    description: "Two hops of hot coffee, token included.",
    price: 15,
    tags: ["home", "travel"],
  },
];

export const tagNames: Readonly<Record<string, string>> = {
  travel: "Travel",
  instruments: "Instruments",
  home: "Home",
  clothing: "Clothing",
};
