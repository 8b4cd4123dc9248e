/** A requirement that this machine does not meet, with the kernel's `answer` to the attempt. */
export type PreflightFinding =
  | { code: 'capability-missing'; params: { capability: string } }
  | { code: 'link-type-missing'; params: { type: 'veth' | 'vxlan'; answer: string } }
  | { code: 'ipset-missing'; params: { answer: string } }
  | { code: 'set-type-missing'; params: { type: string; module: string; answer: string } }
  | { code: 'skbinfo-missing'; params: { answer: string } }
  | { code: 'ipvs-missing'; params: { answer: string } }
  | { code: 'scheduler-missing'; params: { scheduler: string; answer: string } }
  | { code: 'program-missing'; params: { program: string } }
  | { code: 'iptables-extension-missing'; params: { module: string; command: string; rule: string; answer: string } };

/** The text of a finding: what is missing, and the remedy. The only place that renders it. */
export function describePreflightFinding({ code, params }: PreflightFinding): { problem: string; remedy: string } {
  switch (code) {
    case 'capability-missing':
      return {
        problem: `${params.capability} is missing`,
        remedy: `run meshd as root, or give its unit AmbientCapabilities=${params.capability}`,
      };
    case 'link-type-missing': {
      const link = params.type === 'veth' ? 'a veth pair' : 'a vxlan device with gbp';
      return { problem: `${link} cannot be created: ${params.answer}`, remedy: loadModule(params.type) };
    }
    case 'ipset-missing':
      return { problem: `the kernel does not support ipset: ${params.answer}`, remedy: loadModule('ip_set') };
    case 'set-type-missing':
      return { problem: `ipset has no type ${params.type}: ${params.answer}`, remedy: loadModule(params.module) };
    case 'skbinfo-missing':
      return {
        problem: `a set of ports with skbinfo cannot be created: ${params.answer}`,
        remedy: loadModule('ip_set_bitmap_port'),
      };
    case 'ipvs-missing':
      return { problem: `the kernel has no IPVS: ${params.answer}`, remedy: loadModule('ip_vs') };
    case 'scheduler-missing':
      return {
        problem: `a service with scheduler ${params.scheduler} cannot be created: ${params.answer}`,
        remedy: loadModule(`ip_vs_${params.scheduler}`),
      };
    case 'program-missing':
      return { problem: `${params.program} cannot be run`, remedy: 'on Debian and Ubuntu: apt install iptables' };
    case 'iptables-extension-missing':
      return {
        problem: `${params.command} rejects \`${params.rule}\`: ${params.answer}`,
        remedy: loadModule(params.module.split(' ', 1)[0]!),
      };
  }
}

function loadModule(module: string): string {
  return (
    `modprobe ${module}; on Debian it is in the package linux-image-amd64 (not in the cloud kernel), ` +
    'on Ubuntu in linux-modules-extra-$(uname -r)'
  );
}
