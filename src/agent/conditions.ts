/** What is wrong on this node now, for people; each by a key, so that it is raised once and can be cleared. */
export interface Conditions {
  raise(key: string, text: string): void;
  clear(key: string): void;
  get(key: string): string | undefined;
  list(): string[];
}

export function createConditions(onChange: () => void): Conditions {
  const raised = new Map<string, string>();
  return {
    raise(key, text) {
      if (raised.get(key) === text) return;
      raised.set(key, text);
      onChange();
    },
    clear(key) {
      if (raised.delete(key)) onChange();
    },
    get: (key) => raised.get(key),
    list: () => [...raised.values()],
  };
}
