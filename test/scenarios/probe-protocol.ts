/** What a scenario can ask of a probe (probe.ts) inside one of the hosts. Times in milliseconds. */
export type ProbeRequest =
  | { op: 'http'; url: string; timeout: number; localPort?: number; localAddress?: string }
  | { op: 'udp'; host: string; port: number; timeout: number }
  | { op: 'load'; name: string; urls: string[]; parallel: number; keepAlive: boolean; timeout: number; pause: number }
  | { op: 'load-stop'; name: string }
  | { op: 'hold'; name: string; host: string; port: number }
  | { op: 'ask'; name: string }
  | { op: 'release'; name: string };

export type ProbeResponse = { id: number; ok: true; value: unknown } | { id: number; ok: false; error: string };

export interface LoadStats {
  answered: number;
  failed: number;
  /** Requests of keep-alive clients that met a connection just closed, and were asked again on a new one. */
  reconnected: number;
  /** Failures by reason. */
  errors: Record<string, number>;
  /** Answers by task (`web.1`). */
  by: Record<string, number>;
  /** Slowest answer. */
  slowest: number;
}
