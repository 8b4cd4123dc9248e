import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cruise, type IReporterOutput } from 'dependency-cruiser';
import { afterAll, expect, test } from 'vitest';

const rules = createRequire(import.meta.url)('../.dependency-cruiser.cjs');
const scratch = mkdtempSync(join(tmpdir(), 'import-rules-'));
afterAll(() => rmSync(scratch, { recursive: true }));

async function violations(folder: string, base: string): Promise<string[]> {
  const report = (await cruise([folder], {
    baseDir: base,
    ruleSet: { forbidden: rules.forbidden },
    validate: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^src/rpc/gen/' },
    tsPreCompilationDeps: true,
  })) as IReporterOutput;
  if (typeof report.output === 'string') throw new Error(report.output);
  return report.output.summary.violations.map((found) => `${found.rule.name}: ${found.from} → ${found.to}`);
}

test('every module imports only lower layers, without circular imports', async () => {
  expect(await violations('src', process.cwd())).toEqual([]);
}, 120_000);

test('the rules detect violations', async () => {
  for (const folder of ['plan', 'kernel', 'agent', 'manager', 'newcomer', 'lonely'])
    mkdirSync(join(scratch, 'src', folder), { recursive: true });
  symlinkSync(join(process.cwd(), 'node_modules'), join(scratch, 'node_modules'));
  writeFileSync(join(scratch, 'package.json'), '{"type":"module"}');
  writeFileSync(join(scratch, 'src/kernel/a.ts'), 'export const a = 1;\n');
  writeFileSync(
    join(scratch, 'src/plan/up.ts'),
    "import { a } from '../kernel/a.ts';\nimport { readFileSync } from 'node:fs';\nexport const b = [a, readFileSync];\n",
  );
  writeFileSync(join(scratch, 'src/manager/m.ts'), "import { s } from '../agent/s.ts';\nexport const m = s;\n");
  writeFileSync(join(scratch, 'src/agent/s.ts'), "import { m } from '../manager/m.ts';\nexport const s = () => m;\n");
  writeFileSync(join(scratch, 'src/newcomer/n.ts'), "import { a } from '../kernel/a.ts';\nexport const n = a;\n");
  writeFileSync(join(scratch, 'src/lonely/l.ts'), 'export const l = 1;\n');
  const found = (await violations('src', scratch)).join('\n');
  expect(found).toContain('plan-imports-only-lower-layers');
  expect(found).toContain('pure-layers-have-no-io');
  expect(found).toContain('manager-imports-only-lower-layers');
  expect(found).toContain('no-circular');
  // Folders that the table of layers does not list.
  expect(found).toContain('every-folder-has-a-layer: src/newcomer/n.ts');
  expect(found).toContain('every-folder-has-a-layer: src/lonely/l.ts');
}, 120_000);
