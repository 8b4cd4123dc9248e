/** Random faults, the same for the same seed. Each is a probability per operation or event, 0 when left out. */
export interface ModelFaults {
  seed: number;
  /** The kernel answers EBUSY to an operation that would have succeeded. */
  refuse?: number;
  /** An event is lost without notice. */
  loseEvent?: number;
  /** The event queue overflows: the event is replaced by a scope that means everything. */
  overflow?: number;
  /** The caller crashes between two operations: the rest is not executed, and `apply` rejects with `crash`. */
  crash?: number;
}

export interface FaultSource {
  /** Whether this fault happens now. */
  occurs(fault: Exclude<keyof ModelFaults, 'seed'>): boolean;
  /** Other faults from now on, undefined for none. */
  set(faults: ModelFaults | undefined): void;
}

export function createFaultSource(initial: ModelFaults | undefined): FaultSource {
  let faults = initial;
  let random = seededRandom(initial?.seed ?? 0);
  return {
    occurs(fault) {
      const chance = faults?.[fault] ?? 0;
      return chance > 0 && random() < chance;
    },
    set(next) {
      faults = next;
      random = seededRandom(next?.seed ?? 0);
    },
  };
}

/** mulberry32: small, and the same everywhere. */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
