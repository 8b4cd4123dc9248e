import { expect, it } from 'vitest';
import { nextPhase, type Phase, type PhaseEvent } from './phase.ts';

const PHASES: readonly Phase[] = ['paused', 'active', 'unknown', 'stopped'];
const after = (...events: PhaseEvent[]) => events.reduce<Phase>(nextPhase, 'paused');

it('changes nothing before it is started', () => {
  expect(after('observedAll')).toBe('paused');
  expect(after('passFailed')).toBe('paused');
  expect(after('start')).toBe('active');
});

it('does not trust what it knows after a failed pass until everything was observed', () => {
  expect(after('start', 'passFailed')).toBe('unknown');
  expect(after('start', 'passFailed', 'start')).toBe('unknown');
  expect(after('start', 'passFailed', 'passFailed')).toBe('unknown');
  expect(after('start', 'passFailed', 'observedAll')).toBe('active');
});

it.each(PHASES)('stops for good when it is %s', (phase) => {
  const stopped = nextPhase(phase, 'stop');
  expect(stopped).toBe('stopped');
  for (const event of ['start', 'passFailed', 'observedAll', 'stop'] as const)
    expect(nextPhase(stopped, event)).toBe('stopped');
});
