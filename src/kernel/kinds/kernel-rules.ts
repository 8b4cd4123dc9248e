import { HOST_NETNS } from '../../model/linux-names.ts';

/** Names as errno(3) has them; the real kernel answers the same to the same request. */
export type ModelErrno = 'EEXIST' | 'ENOENT' | 'EBUSY' | 'EOPNOTSUPP' | 'EINVAL' | 'ENETUNREACH';

/** What a rule may ask about the rest of the kernel's state. */
export interface KernelView<O> {
  exists(name: string): boolean;
  /** The object with this name, where it has the name alone. */
  get(name: string): O | undefined;
  objects(): Iterable<O>;
}

/**
 * How the kernel treats objects of one kind, for the model kernel. Written from the kernel's side, apart from the
 * dependencies in src/model and src/diff, which are tested against it; test/kernel/replay.ts compares it with the real
 * kernel. Things are named in one flat name space (functions below).
 */
export interface KernelRules<O, All = unknown> {
  /** Names it has alone: creating another object with one of them fails with EEXIST. Its key when not given. */
  names?(object: O): readonly string[];
  /** Names it may share with other objects. */
  sharedNames?(object: O): readonly string[];
  /** Must exist when it is created; the kernel removes it together with these. */
  livesIn(object: O): readonly string[];
  /** Must exist, and cannot be removed while this object uses it (EBUSY). */
  uses?(object: O): readonly string[];
  /** Links it knows by ifindex: must exist when it is created, and may be removed while it stays. */
  indexes?(object: O): readonly string[];
  /** What is left of it when such a link was removed. */
  withoutIndex?(object: O): O;
  /** A setting always exists: creating it sets it, deleting it is impossible. */
  setting?: true;
  /** Whether a request can turn one state into the other; always when not given. */
  canChange?(before: O, after: O): boolean;
  /** Other reasons for which the kernel refuses to create it. */
  refusal?(object: O, view: KernelView<All>): ModelErrno | undefined;
  /** Another program's content keeps it from being deleted (EBUSY). */
  undeletable?(object: O): boolean;
}

/** The netns of an object; the host's is never removed. */
export function netnsNames(...netns: readonly string[]): string[] {
  return netns.filter((name) => name !== HOST_NETNS).map((name) => `netns ${name}`);
}

export function linkName(netns: string, name: string): string {
  return `link ${netns} ${name}`;
}

/** An IP address of the netns, on whatever links. */
export function localName(netns: string, address: string): string {
  return `local ${netns} ${address}`;
}

export function setName(netns: string, name: string): string {
  return `ipset ${netns} ${name}`;
}

export function chainName(netns: string, family: string, table: string, chain: string): string {
  return `chain ${netns} ${family} ${table} ${chain}`;
}

/** A service of IPVS: the kernel finds it by its mark, or by address, protocol and port. */
export function serviceName(service: { netns: string; family: string; fwmark: number; at?: string }): string {
  const { netns, family, fwmark, at } = service;
  return `virtual-service ${netns} ${family} ${fwmark}${at === undefined ? '' : ` at ${at}`}`;
}
