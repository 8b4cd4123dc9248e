/** Time as a port, so that decisions take it as data and tests own it. All values in milliseconds. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch; for records people read. */
  now(): number;
  /** Monotonic milliseconds; for measuring and for deadlines. */
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
