import type { Result } from '../../base/errors.ts';
import { CHAIN_PREFIX } from '../../model/linux-names.ts';
import { Attributes, decodeError, toDecodeResult } from '../../netlink/attributes.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_REQUEST } from '../../netlink/message.ts';
import type { Actor } from '../kernel.ts';

/** include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h */
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWGEN = 15;
const NFT_MSG_GETGEN = 16;
const NFTA_GEN_ID = 1;
const NFTA_GEN_PROC_PID = 2;
const NFTA_GEN_PROC_NAME = 3;
const NFGENMSG = 4;
const CHAIN_PREFIX_BYTES = Buffer.from(CHAIN_PREFIX, 'latin1');

/** Reads the events of nf_tables, which iptables-nft changes cause and iptables-legacy does not. */
export interface FirewallEventReader {
  /**
   * At the end of another program's transaction that changed chains of ours or rules that lead into them: who did it, as
   * far as the kernel reports it. Undefined at all other times.
   */
  foreignChange(message: NetlinkMessage): { by: Actor | undefined } | undefined;
}

/** Reads one stream of events: the end of a transaction is its NEWGEN. */
export function createFirewallEventReader(isOwnProcess: (pid: number) => boolean): FirewallEventReader {
  let touched = false;
  return {
    foreignChange({ type, payload }) {
      if (type >> 8 !== NFNL_SUBSYS_NFTABLES) return undefined;
      if ((type & 0xff) !== NFT_MSG_NEWGEN) {
        // Rules contain names of chains as text too, as the target of a jump.
        touched ||= Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).includes(CHAIN_PREFIX_BYTES);
        return undefined;
      }
      const mine = touched;
      touched = false;
      if (!mine) return undefined;
      const by = readActor(payload);
      return by !== undefined && isOwnProcess(by.pid) ? undefined : { by };
    },
  };
}

/** Process whose transaction this was (nf_tables_fill_gen_info). */
function readActor(payload: Uint8Array): Actor | undefined {
  const actor = toDecodeResult('nf_tables event', () => {
    const attributes = new Attributes(payload, NFGENMSG);
    const pid = attributes.be32(NFTA_GEN_PROC_PID);
    const name = attributes.string(NFTA_GEN_PROC_NAME);
    return pid === undefined ? undefined : { pid, ...(name === undefined ? {} : { name }) };
  });
  return actor.ok ? actor.value : undefined;
}

/** Asks for the number of the last nf_tables transaction in a netns; every change of iptables-nft makes a new one. */
export function getGeneration(): NetlinkRequest {
  const type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN;
  return { type, flags: NLM_F_REQUEST, payload: new Uint8Array(NFGENMSG) };
}

/** The generation of a netns's rules: it grows with every transaction (NFTA_GEN_ID). */
export function decodeGeneration({ type, payload }: NetlinkMessage): Result<number> {
  return toDecodeResult('nf_tables generation', () => {
    const id = new Attributes(payload, NFGENMSG).be32(NFTA_GEN_ID);
    if (type !== ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN) || id === undefined)
      throw decodeError('no number in it');
    return id;
  });
}
