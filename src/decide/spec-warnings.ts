import { type AdmissionWarning, admissionWarning } from '../model/admission-warning.ts';
import type { Scheduler, ServiceSpec } from '../model/spec.ts';

/** These ignore the weight of a real server (net/netfilter/ipvs/ip_vs_rr.c, ip_vs_lc.c). */
const WITHOUT_WEIGHTS: readonly Scheduler[] = ['rr', 'lc'];

/** Settings that are allowed but have no effect. */
export function specWarnings({ weight, ports }: ServiceSpec): AdmissionWarning[] {
  const ignoresWeight = ({ mode, scheduler = 'rr' }: ServiceSpec['ports'][number]) =>
    mode === 'host' || WITHOUT_WEIGHTS.includes(scheduler);
  if (weight === undefined || ports.length === 0 || !ports.every(ignoresWeight)) return [];
  return [admissionWarning('WeightUnused', {})];
}
