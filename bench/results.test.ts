import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { keyOf, readResults } from './results.ts';

it('keeps the better of two boots, with the bare host of the same boot', () => {
  const line = (system: string, metric: string, value: number) => {
    const name = system === 'bare' ? 'conn-bare' : 'conn-remote';
    const unit = metric === 'rate' ? 'per_s' : 'us';
    return JSON.stringify({ bench: 'tcp', case: name, system, metric, unit, value, samples: [value] });
  };
  const boots = [
    [line('bare', 'p50', 290), line('meshd', 'p50', 430), line('bare', 'rate', 3000), line('meshd', 'rate', 2000)],
    [line('bare', 'p50', 450), line('meshd', 'p50', 640), line('bare', 'rate', 3300), line('meshd', 'rate', 2200)],
  ];
  const directory = mkdtempSync(join(tmpdir(), 'results-'));
  for (const order of [boots, boots.toReversed()]) {
    writeFileSync(join(directory, 'lines'), order.flat().join('\n'));
    const results = readResults(join(directory, 'lines'));
    expect(results.get(keyOf('tcp', 'conn-remote', 'meshd', 'p50'))).toMatchObject({ value: 430, bare: 290 });
    expect(results.get(keyOf('tcp', 'conn-remote', 'meshd', 'rate'))).toMatchObject({ value: 2200, bare: 3300 });
  }
  rmSync(directory, { recursive: true });
});
