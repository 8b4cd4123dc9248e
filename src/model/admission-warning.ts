import { boundedParams, type CodedText, fillTemplate, type ParamNames } from './coded-text.ts';

/** What a person should know about an accepted spec, by code. */
const ADMISSION_WARNINGS = {
  PortInUse:
    'port {port} is used by {listener} on {node}; the published port takes precedence: clients of {node} reach service {service} instead',
  PortWithheld:
    'port {port} is used by {listener} on {node}, which keeps it; service {service} is not reachable on that port there',
  MorePortsInUse: 'programs on nodes use published ports in {count} more cases',
  WeightUnused:
    'x-mesh.weight has no effect: no port has a scheduler that uses weights; specify x-mesh.scheduler wrr, wlc, sed, nq, sh or mh',
} as const;

type AdmissionWarningCode = keyof typeof ADMISSION_WARNINGS;

export interface AdmissionWarning extends CodedText {
  code: AdmissionWarningCode;
}

export function admissionWarning<C extends AdmissionWarningCode>(
  code: C,
  params: Record<ParamNames<(typeof ADMISSION_WARNINGS)[C]>, string | number>,
): AdmissionWarning {
  return { code, params: boundedParams(params) };
}

export function renderAdmissionWarning({ code, params }: AdmissionWarning): string {
  return fillTemplate(ADMISSION_WARNINGS[code], params);
}
