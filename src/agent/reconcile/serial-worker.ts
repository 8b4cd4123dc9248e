/** Does one piece of work after another, as long as there is any. */
export interface SerialWorker {
  /** There may be work again. */
  wake(): void;
  /** Resolves when the piece under way is done. */
  idle(): Promise<void>;
}

/** `takeNext` returns the next piece of work, undefined when there is none; its failure is passed to `onError`. */
export function createSerialWorker(
  takeNext: () => (() => Promise<void>) | undefined,
  onError: (thrown: unknown) => void,
): SerialWorker {
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    // One turn later, so that what arrives together is done together.
    await Promise.resolve();
    try {
      for (let work = takeNext(); work !== undefined; work = takeNext()) {
        try {
          await work();
        } catch (thrown) {
          onError(thrown);
        }
      }
    } finally {
      running = undefined;
    }
  }

  return {
    wake() {
      running ??= run();
    },
    idle: async () => running,
  };
}
