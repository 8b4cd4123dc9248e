import fc from 'fast-check';
import { expect, test } from 'vitest';
import { renderFinding } from '../../model/doctor.ts';
import { KINDS } from '../../model/kinds/registry.ts';
import { parseDoctorAnswer, parseKernelAnswer } from './node-answers.ts';

// A damaged or hostile answer is an error of its node, never an exception of the whole request.

const answer = (json: string) => ({ nodeId: 'n1', nodeName: 'node1', body: Buffer.from(json), error: '' });
const nested = '['.repeat(100_000) + ']'.repeat(100_000);
const route = '{"kind":"route","netns":"host","table":254,"family":"inet","destination":"0.0.0.0/0"}';
const kernel = (objects: string) => `{"revision":1,"addresses":[],"objects":${objects}}`;
const doctor = (findings: string) => `{"now":1,"took":1,"version":"1","findings":${findings},"echoes":[]}`;

test.each([
  ['nothing', ''],
  ['no JSON', '\u0000{"revision"'],
  ['deep', nested],
  ['a list of lists', kernel(nested)],
  ['a key of every object', kernel('[{"kind":"__proto__","netns":"x"},{"kind":"constructor","netns":"x"}]')],
  ['an object with a prototype', kernel(`[${route.replace('"kind"', '"__proto__":{"kind":"link"},"kind"')}]`)],
  ['an object in the place of a text', kernel('[{"kind":{"toString":1},"netns":"x"}]')],
  ['a finding with a key of every object', doctor('[{"level":"error","code":"__proto__","params":{"__proto__":"x"}}]')],
  ['a finding named like a method', doctor('[{"level":"ok","code":"toString","params":{"a":"b"}}]')],
  ['a finding without its values', doctor('[{"level":"ok","code":"KernelMatches","params":[]}]')],
  ['numbers without end', doctor('[]').replaceAll('1', '1e999')],
])('%s is a value or an error', (_, json) => {
  expectReadable(json);
});

test('any JSON is a value or an error', () => {
  const value = fc.json();
  const kind = fc.constantFrom(...Object.keys(KINDS)).map((name) => JSON.stringify(name));
  const fields = fc.constantFrom('netns', 'name', 'table', '__proto__', 'foreign');
  const object = fc.tuple(kind, fc.dictionary(fields, fc.json())).map(([kind, rest]) => ({ kind, ...rest }));
  const asJson = (entries: Record<string, string>) =>
    `{${Object.entries(entries).map(([key, json]) => `"${key}":${json}`)}}`;
  fc.assert(
    fc.property(value, fc.array(object), (json, objects) => {
      for (const text of [json, kernel(json), doctor(json), kernel(`[${objects.map(asJson)}]`)]) expectReadable(text);
    }),
  );
});

function expectReadable(json: string): void {
  const state = parseKernelAnswer(answer(json));
  if ('error' in state) expect(state.error).toMatch(/^its answer cannot be read/);
  const report = parseDoctorAnswer(answer(json));
  if ('error' in report) expect(report.error).toMatch(/^its answer cannot be read/);
  else for (const finding of report.value.findings) expect(typeof renderFinding(finding).what).toBe('string');
}
