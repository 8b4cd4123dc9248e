/** Requests to a probe (probe.ts) inside one of the hosts. Times in milliseconds. */
export type ProbeRequest =
  | { op: 'http'; url: string; timeout: number; localPort?: number; localAddress?: string }
  | { op: 'udp'; host: string; port: number; timeout: number }
  | { op: 'load'; name: string; urls: string[]; parallel: number; keepAlive: boolean; timeout: number; pause: number }
  | { op: 'load-stop'; name: string }
  | { op: 'hold'; name: string; host: string; port: number }
  | { op: 'request'; name: string }
  | { op: 'release'; name: string };

export type ProbeResponse = { id: number; ok: true; value: unknown } | { id: number; ok: false; error: string };

export interface LoadStats {
  answered: number;
  failed: number;
  /** Keep-alive requests that failed on a connection closed by the server and were retried on a new one. */
  reconnected: number;
  /** Failures by reason. */
  errors: Record<string, number>;
  /** Responses by task (`web.1`). */
  by: Record<string, number>;
  /** Slowest response. */
  slowest: number;
}
