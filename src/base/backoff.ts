/**
 * Exponential delay in milliseconds before attempt `attempt` (0 = the first retry), without jitter:
 * base, 2·base, 4·base … up to `limit`.
 */
export function backoff(attempt: number, base: number, limit: number): number {
  return Math.min(limit, base * 2 ** Math.min(attempt, 30));
}
