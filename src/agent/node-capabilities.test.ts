import { expect, it } from 'vitest';
import type { Log } from '../base/log.ts';
import { detectCapabilities, type FastPathMode } from './node-capabilities.ts';

function detect(fastPath: FastPathMode, underlayLink: { name: string; ethernet: boolean } | undefined) {
  const warnings: string[] = [];
  const log = { warn: (text: string) => void warnings.push(text) } as unknown as Log;
  return { ...detectCapabilities({ underlayLink, underlayMtu: 1_500, schedulers: [], fastPath }, log), warnings };
}

it('the full fast path begins at the link of the advertised address', () => {
  expect(detect('full', { name: 'br0', ethernet: true })).toMatchObject({ fastPath: { link: 'br0' }, warnings: [] });
});

it.each([
  [
    { name: 'dummy0', ethernet: false },
    '--fast-path full: dummy0 receives no Ethernet frames of other hosts; using the fast path inside only',
  ],
  [undefined, '--fast-path full: no link has the advertised address; using the fast path inside only'],
])('with %o it is used inside only, and the log says why', (link, warning) => {
  const { fastPath, warnings } = detect('full', link);
  expect(fastPath).toEqual({});
  expect(warnings).toEqual([warning]);
});

it.each([
  ['inside', {}],
  ['off', undefined],
] as const)('%s does not depend on the link', (mode, fastPath) => {
  expect(detect(mode, undefined)).toMatchObject({ warnings: [] });
  expect(detect(mode, undefined).fastPath).toEqual(fastPath);
});
