/** Interface to the time, so that pure code receives it as data and tests control it. All values in milliseconds. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch; for timestamps shown to users. */
  now(): number;
  /** Monotonic milliseconds; for durations and deadlines. */
  monotonic(): number;
  /** Calls back once after `delay` ms; the returned function cancels. */
  after(delay: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delay, callback) {
    const timer = setTimeout(callback, delay);
    return () => clearTimeout(timer);
  },
};
