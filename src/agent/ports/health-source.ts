import ipaddr from 'ipaddr.js';

/**
 * Who is counted as one: an IPv4 address, or an IPv6 network of 64 bits, because a host chooses freely among its addresses.
 * A peer that has disconnected already has no address: the empty text.
 */
export function sourceOf(address: string | undefined): string {
  if (address === undefined || !ipaddr.isValid(address)) return '';
  const parsed = ipaddr.process(address); // ::ffff:192.0.2.1 of a dual-stack socket is 192.0.2.1
  if (parsed instanceof ipaddr.IPv4) return parsed.toString();
  return `${new ipaddr.IPv6([...parsed.parts.slice(0, 4), 0, 0, 0, 0]).toRFC5952String()}/64`;
}
