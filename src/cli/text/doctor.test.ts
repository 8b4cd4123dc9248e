import { describe, expect, it } from 'vitest';
import type { NodeCheckup } from '../../rpc/messages.ts';
import { doctorRow, renderDoctor } from './doctor.ts';

const ok = { level: 'ok' as const, code: 'KernelMatches', params: {}, check: 'kernel', what: 'fine', remedy: '' };

function checkup(number: number, more: Partial<NodeCheckup> = {}): NodeCheckup {
  const paths = [1, 2, 3]
    .filter((other) => other !== number)
    .map((other) => ({ node: `node${other}`, address: `172.30.0.${other}`, small: 0.5, full: 0.61 }));
  return { nodeId: `n${number}`, nodeName: `node${number}`, findings: [ok], paths, ...more };
}

const render = (checkups: NodeCheckup[], verbose: boolean) => renderDoctor(checkups.map(doctorRow), verbose);

describe('doctor', () => {
  it('prints one line where all is well, and everything when asked', () => {
    const all = [checkup(1), checkup(2), checkup(3)];
    expect(render(all, false)).toBe('3 checks on 3 nodes: all well\n');
    expect(render(all, true)).toContain('node2       0.5/0.6   -         0.5/0.6\n');
    expect(render(all, true)).toContain('node2\n  ok       kernel     fine\n');
  });

  it('shows the path matrix when packets were lost', () => {
    const paths = [{ node: 'node2', address: '172.30.0.2' }];
    expect(render([checkup(1, { paths }), checkup(2)], false)).toMatch(/^node1 +- +lost\/lost +-$/m);
  });

  it('prints each finding with its remedy, whatever a node put into it', () => {
    const finding = { ...ok, level: 'error' as const, check: 'disk', what: 'full\u001b[31m', remedy: 'rm -r' };
    expect(render([checkup(1, { findings: [finding] }), checkup(2)], false)).toBe(
      'node1\n  error    disk       full [31m\n                      → rm -r\n\n2 checks on 2 nodes: 1 error, 0 warnings\n',
    );
  });
});
