import { expect, it } from 'vitest';
import type { RouteQuestion, RouteResult } from '../../model/route-lookup.ts';
import { CAPABILITIES, emptyAssignment } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import { answerRoutesQuery } from './routes-query.ts';

const CALLED = '198.51.100.1';
const QUESTION = { client: '203.0.113.9', called: CALLED, protocol: 'udp', published: 53 };

function stateWith(strictReversePath: boolean) {
  const source = `${CALLED}/32`;
  const rule = { family: 'inet', priority: 5, source, fwmark: 0, fwmask: 0, action: { lookup: 100 } } as const;
  const hostRouting = { rules: [rule], localSources: [source], strictReversePath };
  return plan(emptyAssignment(1, ['inet']), { ...CAPABILITIES, hostRouting });
}

async function ask(state: ReturnType<typeof stateWith>, own: RouteResult) {
  const asked: RouteQuestion[] = [];
  const answer = await answerRoutesQuery(QUESTION, state, async (question) => {
    asked.push(question);
    return question.inputLink === undefined ? own : { link: question.inputLink, table: 1 };
  });
  return { asked, answer };
}

it('asks for the ways of the answer as the host and as the lb sends it, and of the request', async () => {
  const { asked, answer } = await ask(stateWith(false), { link: 'eth1', table: 100 });
  const back = { destination: '203.0.113.9', protocol: 'udp', sourcePort: 53, destinationPort: 40_000 };
  const mark = asked[1]!.mark;
  expect(mark & 0x3f00_0000).toBe(mark);
  expect(mark).not.toBe(0);
  expect(asked).toEqual([
    { ...back, source: CALLED, mark: 0 },
    { ...back, source: '10.252.1.2', inputLink: 'mesh0', mark },
    {
      source: '203.0.113.9',
      destination: '10.252.1.2',
      inputLink: 'eth1',
      mark: 0,
      protocol: 'udp',
      sourcePort: 40_000,
      destinationPort: 53,
    },
  ]);
  expect(answer).toEqual({
    own: { link: 'eth1', table: 100 },
    answer: { link: 'mesh0', table: 1 },
    request: { link: 'eth1', table: 1 },
  });
});

it('gives the request its mark where the reverse path is checked strictly', async () => {
  const { asked } = await ask(stateWith(true), { link: 'eth1', table: 100 });
  expect(asked[2]!.mark).toBe(asked[1]!.mark);
  expect(asked[2]!.mark).not.toBe(0);
});

it('needs no way of a request that can have no answer, and rejects malformed questions', async () => {
  const { asked, answer } = await ask(stateWith(false), { error: 'ENETUNREACH' });
  expect(asked).toHaveLength(2);
  expect(answer.request).toEqual({ error: 'ENETUNREACH' });
  const nothing = await ask(new Map(), { link: 'eth1', table: 100 });
  expect(nothing.answer.answer).toEqual({ error: 'ENODEV' });
  for (const change of [{ client: 'x' }, { published: 0 }, { protocol: 'icmp' }, { more: 1 }]) {
    await expect(
      answerRoutesQuery({ ...QUESTION, ...change }, new Map(), async () => ({ error: '' })),
    ).rejects.toThrow();
  }
});
