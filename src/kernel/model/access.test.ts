import { BlockList } from 'node:net';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { diff } from '../../diff/diff.ts';
import { type Cidr, familyOf, type IpAddress } from '../../model/address.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import type { KernelState } from '../../model/kernel-state.ts';
import type { SetEntry } from '../../model/kinds/set-entry.ts';
import { anyAccess, CAPABILITIES, endpoint, port, threeNodes } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import { createModelKernel } from './model-kernel.ts';

const POINTS = {
  inet: ['10.0.0.1', '10.1.9.9', '10.1.2.3', '200.0.0.1'],
  inet6: ['2001:db8::7', '2001:db8:9::1', 'fe80::1'],
};
const PAIRS = [POINTS.inet, POINTS.inet6].flatMap((points) =>
  points.flatMap((client) => points.map((local): [IpAddress, IpAddress] => [client, local])),
);

const containsCache = new Map<string, boolean>();

function contains(network: Cidr, address: IpAddress): boolean {
  if (familyOf(network) !== familyOf(address)) return false;
  const key = `${network} ${address}`;
  const asked = containsCache.get(key);
  if (asked !== undefined) return asked;
  const [base = '', prefix] = network.split('/');
  const list = new BlockList();
  const family = familyOf(address) === 'inet' ? 'ipv4' : 'ipv6';
  list.addSubnet(base, Number(prefix), family);
  const inside = list.check(address, family);
  containsCache.set(key, inside);
  return inside;
}

const access = (fields: Partial<AssignedPort>) => ({
  ...threeNodes(['inet', 'inet6']),
  ports: [{ ...port('tcp', 8080, [endpoint(1, 1, 'inet', 80), endpoint(1, 1, 'inet6', 80)]), ...fields }],
});

/** The declared result for a client that connects to a local address. */
function declared({ allowFrom, addresses }: Partial<AssignedPort>, client: IpAddress, local: IpAddress): boolean {
  const within = (list: readonly Cidr[] | undefined, address: IpAddress) =>
    list === undefined || list.some((network) => contains(network, address));
  return within(allowFrom, client) && within(addresses, local);
}

type Verdict = 'let in' | 'refused' | 'passed over';

/** What the host does with each pair, by the entries of its sets. */
function verdicts(state: KernelState): Verdict[] {
  if (state.has('set-member host mesh-pub-tcp 8080')) return PAIRS.map(() => 'let in');
  const entries = [...state.values()].filter((object) => object.kind === 'set-entry' && object.port === 8080);
  const of = (set: string) => (entries as SetEntry[]).filter((entry) => entry.set.startsWith(set));
  const [from, at] = [of('mesh-from-'), of('mesh-at-')];
  return PAIRS.map(([client, local]) => {
    const pair = from.some(({ network, network2 }) => contains(network, client) && contains(network2!, local));
    if (pair) return 'let in';
    return at.some(({ network }) => contains(network, local)) ? 'refused' : 'passed over';
  });
}

it('accepts the declared clients, rejects others on addresses of the port, and ignores other addresses', () => {
  fc.assert(
    fc.property(anyAccess, (fields) => {
      const expected = PAIRS.map(([client, local]): Verdict => {
        if (declared(fields, client, local)) return 'let in';
        return declared({ addresses: fields.addresses! }, client, local) ? 'refused' : 'passed over';
      });
      expect(verdicts(plan(access(fields), CAPABILITIES))).toEqual(expected);
    }),
    { numRuns: 100 },
  );
});

it('while lists change, clients that both allow stay allowed, and those that neither allows stay rejected', async () => {
  await fc.assert(
    fc.asyncProperty(anyAccess, anyAccess, async (before, after) => {
      const want = plan(access(after), CAPABILITIES);
      const kernel = createModelKernel({ objects: plan(access(before), CAPABILITIES).values() });
      const was = PAIRS.map((pair) => declared(before, ...pair));
      const will = PAIRS.map((pair) => declared(after, ...pair));
      kernel.onStep((_, state) => {
        const now = verdicts(state).map((fate) => fate === 'let in');
        // Where the two lists differ, either result is accepted during the change.
        expect(now.filter((_, i) => was[i] === will[i])).toEqual(was.filter((_, i) => was[i] === will[i]));
      });
      const { failed } = await kernel.apply(diff(await kernel.observe(), want));
      expect(failed).toEqual([]);
    }),
    { numRuns: 100 },
  );
});

it('a peer is allowed before a task of it accepts connections', () => {
  const all = threeNodes(['inet']);
  const alone = { ...all, peers: [], ports: [] };
  const order = diff(plan(alone, CAPABILITIES), plan(all, CAPABILITIES)).map(({ object }) => object);
  const lastPeer = order.findLastIndex((object) => object.kind === 'set-entry');
  expect(order[lastPeer]).toMatchObject({ set: 'mesh-peers-4' });
  expect(lastPeer).toBeLessThan(order.findIndex(({ kind }) => kind === 'real-server'));
});
