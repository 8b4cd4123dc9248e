import { describe, expect, expectTypeOf, test } from 'vitest';
import { condition, renderCondition } from './condition.ts';
import { type FindingParams, finding, renderFinding } from './doctor.ts';
import { FINDING_TEXTS } from './finding-texts.ts';

describe('a finding', () => {
  test('is rendered from its code and its values', () => {
    const command = 'sysctl -w net.ipv4.ip_forward=1';
    const found = finding('error', 'ForwardingDisabled', {
      sysctl: 'net.ipv4.ip_forward',
      value: 0,
      netns: 'host',
      command,
    });
    expect(renderFinding(found)).toEqual({
      level: 'error',
      code: 'ForwardingDisabled',
      params: { sysctl: 'net.ipv4.ip_forward', value: '0', netns: 'host', command },
      check: 'sysctl',
      what: 'net.ipv4.ip_forward is 0 in host: packets are not forwarded',
      remedy: command,
    });
    expectTypeOf<FindingParams<'MtuUnused'>>().toEqualTypeOf<Record<'mtu' | 'needed', string | number>>();
  });

  test('of a newer version is shown with what it holds; of an older one, without a value', () => {
    expect(renderFinding({ level: 'warning', code: 'DiskReadOnly', params: { path: '/var' } })).toMatchObject({
      what: 'DiskReadOnly (path /var)',
      remedy: '',
    });
    expect(renderFinding({ level: 'ok', code: 'VersionCurrent', params: {} }).what).toBe('meshd ?');
    expect(renderFinding({ level: 'ok', code: 'constructor', params: {} }).what).toBe('constructor');
  });

  test('may be a condition of the node', () => {
    const raised = condition('ManagerUnreachable', { reason: 'ECONNREFUSED' });
    expect(renderFinding({ level: 'error', ...raised })).toMatchObject({
      check: 'condition',
      what: 'no manager reachable (ECONNREFUSED); this node keeps using its last assignment',
    });
    expect(renderCondition(raised)).toMatch(/^ManagerUnreachable: no manager reachable \(ECONNREFUSED\); /);
  });

  test('holds no control characters and is bounded', () => {
    const { params } = finding('error', 'CheckFailed', {
      subject: 'sysctl',
      error: `a\u001b[2J\n${'x'.repeat(5_000)}`,
    });
    expect(params['error']).toMatch(/^a \[2J xxx/);
    expect(params['error']).toHaveLength(1_000);
  });

  test('has texts whose placeholders all have a name', () => {
    for (const texts of Object.values(FINDING_TEXTS)) {
      const all = `${texts.text}${'remedy' in texts ? texts.remedy : ''}`;
      expect(all.replace(/\{[a-z_]+\}/g, '')).not.toMatch(/[{}]/);
    }
  });
});
