/** Address families as the kernel names them. */
export type Family = 'inet' | 'inet6';

export const FAMILY_NAMES: Readonly<Record<Family, string>> = { inet: 'IPv4', inet6: 'IPv6' };

export type Protocol = 'tcp' | 'udp' | 'sctp';

/** An address in canonical text form: dotted quad, or RFC 5952 for IPv6. */
export type IpAddress = string;

/** A network in canonical text form, host bits zero: `10.252.3.0/24`, `fd6d:65:73:3::/64`. */
export type Cidr = string;

/** Lower-case, colon-separated: `02:6d:65:73:00:01`. */
export type MacAddress = string;

/** The family of an address or network in text form; only IPv6 has colons. */
export function familyOf(address: IpAddress | Cidr): Family {
  return address.includes(':') ? 'inet6' : 'inet';
}
