import { createHash } from 'node:crypto';
import type { Program } from './assembler.ts';

/** BPF_TAG_SIZE, include/uapi/linux/bpf.h */
const TAG_BYTES = 8;

/**
 * The tags a kernel may give a program: a hash over its instructions with the descriptors of maps cleared
 * (bpf_prog_calc_tag in kernel/bpf/core.c), SHA-1 up to 6.17 and SHA-256 since 6.18 (commit 603b44162343). A match with
 * either identifies the program, so the kernel version does not matter.
 */
export function programTags({ code }: Program): string[] {
  return ['sha1', 'sha256'].map((hash) =>
    createHash(hash)
      .update(code)
      .digest('hex')
      .slice(0, 2 * TAG_BYTES),
  );
}
