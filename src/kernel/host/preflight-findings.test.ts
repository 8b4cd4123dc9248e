import { expect, it } from 'vitest';
import { describePreflightFinding } from './preflight-findings.ts';

it('separates what is missing from the remedy', () => {
  expect(describePreflightFinding({ code: 'capability-missing', params: { capability: 'CAP_NET_ADMIN' } })).toEqual({
    problem: 'CAP_NET_ADMIN is missing',
    remedy: 'run meshd as root, or give its unit AmbientCapabilities=CAP_NET_ADMIN',
  });
  const ipvs = describePreflightFinding({ code: 'ipvs-missing', params: { answer: 'ENOENT' } });
  expect(ipvs.problem).toBe('the kernel has no IPVS: ENOENT');
  expect(ipvs.remedy).toMatch(/^modprobe ip_vs; on Debian .*linux-image-amd64/);
});

it('names the module of an iptables extension without the remark behind it', () => {
  const module = 'xt_CT with conntrack zones (CONFIG_NF_CONNTRACK_ZONES)';
  const params = { module, command: 'iptables-restore', rule: 'PREROUTING -j CT --zone-orig mark', answer: 'no' };
  const { problem, remedy } = describePreflightFinding({ code: 'iptables-extension-missing', params });
  expect(problem).toBe('iptables-restore rejects `PREROUTING -j CT --zone-orig mark`: no');
  expect(remedy).toMatch(/^modprobe xt_CT; /);
});
