// Random, seeded damage to every kind of object under traffic: after each round the desired state is restored.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { runTorture } from '../torture/rounds.ts';
import { applyWeb, closeProbes } from './shared.ts';

const seed = Number(process.env['TEST_SEED'] ?? 1);
const rounds = Number(process.env['TEST_ROUNDS'] ?? 3);

test(`torture: ${rounds} rounds of seed ${seed}`, async () => {
  await applyWeb({ replicas: 3 });
  const { times, answered } = await runTorture(seed, rounds);
  const at = (part: number) => times[Math.min(times.length - 1, Math.floor(times.length * part))]!;
  console.log(`# torture: median round ${at(0.5).ms} ms, slowest ${at(1).ms} ms: ${at(1).what}`);
  assert.ok(answered > 0);
});

after(closeProbes);
