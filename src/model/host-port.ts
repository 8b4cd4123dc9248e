/** `HOST:PORT` as people write it: `node1:2377`, `192.0.2.1:8080`, `[2001:db8::1]:0`. */
export interface HostPort {
  /** Without the brackets of an IPv6 address. */
  host: string;
  /** 0..65535; 0 asks the kernel for a free port. */
  port: number;
}

/** Undefined for anything else, an IPv6 address without brackets among it. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s/[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

/** `0.0.0.0:8080`, `[::]:8080` */
export function formatHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
