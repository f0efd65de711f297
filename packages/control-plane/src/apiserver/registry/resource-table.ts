/** The resources served now: the built-in list plus whatever custom ones exist. */
import { builtinResources, type ResourceInfo } from "../resource-info.ts";
import type { ResourceTable } from "../seams.ts";

/** A table with the built-in resources. */
export function createResourceTable(): ResourceTable & { onChange(listener: () => void): void } {
  let all: readonly ResourceInfo[] = builtinResources;
  let byPath = new Map<string, ResourceInfo>();
  let generation = 0;
  const listeners: (() => void)[] = [];
  const index = (): void => {
    byPath = new Map(all.map((info) => [`${info.group}/${info.version}/${info.plural}`, info]));
  };
  index();
  return {
    all: () => all,
    find: (group, version, plural) => byPath.get(`${group}/${version}/${plural}`),
    findKind: (group, version, kind) =>
      all.find((info) => info.group === group && info.version === version && info.kind === kind),
    findStorage: (storage) => all.find((info) => info.storage === storage),
    setCustom(infos) {
      all = [...builtinResources, ...infos];
      generation += 1;
      index();
      for (const listener of listeners) listener();
    },
    get generation() {
      return generation;
    },
    onChange: (listener) => {
      listeners.push(listener);
    },
  };
}
