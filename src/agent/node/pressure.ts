import { readFileSync } from 'node:fs';
import { type Condition, isConditionCode } from '../../model/condition.ts';
import type { Finding } from '../../model/doctor.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import { readDiskSpace } from '../doctor/collect.ts';
import { checkDisk } from '../doctor/node-state.ts';
import { CONNTRACK_SYSCTLS, checkConntrack } from '../doctor/sysctls.ts';

/** What a node runs out of, as the doctor judges it: its connection table, and the disk of its state. */
export async function readPressure(stateDir: string | undefined): Promise<Condition[]> {
  const disk = stateDir === undefined ? undefined : await readDiskSpace(stateDir);
  const findings = [
    ...checkConntrack(new Map([[HOST_NETNS, readSettings(CONNTRACK_SYSCTLS)]])),
    ...checkDisk({ stateDir: stateDir ?? '', disk }),
  ];
  return findings.filter(isCondition).map(({ code, params }) => ({ code, params }));
}

function isCondition({ level, code }: Finding): boolean {
  return level === 'error' && isConditionCode(code);
}

/** Of the netns of this process; without those that the kernel does not have. */
function readSettings(names: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const name of names) {
    try {
      values.set(name, readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'latin1').trim());
    } catch {
      // The module is not loaded.
    }
  }
  return values;
}
