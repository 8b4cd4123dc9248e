import { describe, expect, it } from 'vitest';
import { auditSlices } from '../src/agent/reconcile/audit.ts';
import { filterByScope } from '../src/agent/reconcile/scopes.ts';
import { diff } from '../src/diff/diff.ts';
import { routeStep } from '../src/kernel/driver/steps.ts';
import { ERRNO_CODES } from '../src/kernel/kinds/failure-codes.ts';
import { linkName, netnsNames } from '../src/kernel/kinds/kernel-rules.ts';
import type { LinuxKindOf } from '../src/kernel/kinds/kind.ts';
import { kindsRelatedTo, LINUX_KINDS, stepsOf } from '../src/kernel/kinds/registry.ts';
import { createModelKernel } from '../src/kernel/model/model-kernel.ts';
import type { Op } from '../src/model/kernel-state.ts';
import { text } from '../src/model/kinds/fields.ts';
import { type AnyObject, defineKind, type KindRegistry, type ObjectBase } from '../src/model/kinds/kind.ts';
import { type KernelObject, KINDS } from '../src/model/kinds/registry.ts';
import { insideLink } from '../src/model/kinds/things.ts';
import { renderStep } from '../src/model/render.ts';
import { stateFromData } from '../src/model/state-json.ts';
import { setLink } from '../src/netlink/link.ts';
import { CAPABILITIES, threeNodes } from '../src/plan/assignments.test-data.ts';
import { plan } from '../src/plan/plan.ts';

/** A kind that the product does not have: the peer of a tunnel, on the vxlan device. */
interface ToyPeer extends ObjectBase {
  kind: 'toy-peer';
  dev: string;
  name: string;
  secret: string;
}

const NETNS = 'mesh-net-ingress';

const toyPeer = defineKind<ToyPeer>({
  kind: 'toy-peer',
  fields: { dev: text, name: text, secret: text },
  key: ({ netns, dev, name }) => `toy-peer ${netns} ${dev} ${name}`,
  stage: () => 'forwarding entries',
  inside: ({ netns, dev }) => insideLink(netns, dev),
  commands: ({ netns, dev, name, secret }, verb) => [`toy -n ${netns} ${verb} ${name} dev ${dev} secret ${secret}`],
});

const toyPeerLinux: LinuxKindOf<ToyPeer> = {
  steps: ({ object }) => [routeStep(object.netns, () => setLink({ name: object.dev }, { up: true }), [object.dev])],
  observer: async () => [],
  audit: 'silent',
  related: ['link'],
  failures: ERRNO_CODES,
  rules: { livesIn: ({ netns, dev }) => [...netnsNames(netns), linkName(netns, dev)] },
};

const PURE: KindRegistry = { ...KINDS, 'toy-peer': toyPeer };
const LINUX = { ...LINUX_KINDS, 'toy-peer': toyPeerLinux };

const peer = (name: string, secret = 'a'): ToyPeer => ({ kind: 'toy-peer', netns: NETNS, dev: 'vxlan0', name, secret });

/** The plan of a node, with two objects of the toy kind. */
function desiredState(): Map<string, AnyObject> {
  const desired = new Map<string, AnyObject>(plan(threeNodes(['inet']), CAPABILITIES));
  for (const object of [peer('one'), peer('two')]) desired.set(toyPeer.key(object), object);
  return desired;
}

/** The kernel port is typed for the product's kinds; the model kernel handles all of its registry. */
const asProduct = (ops: readonly Op<AnyObject>[]) => ops as readonly Op[];
const openKernel = (objects: Iterable<AnyObject> = []) =>
  createModelKernel({ objects: objects as Iterable<KernelObject>, kinds: { pure: PURE, linux: LINUX } });

describe('a kind that is registered and nothing else', () => {
  it('is built behind the link it is on, and rendered', async () => {
    const kernel = openKernel();
    const ops = diff(new Map(), desiredState(), PURE);
    const places = ops.flatMap(({ object }, place) => (object.kind === 'toy-peer' ? [place] : []));
    expect(places).toHaveLength(2);
    expect(places[0]).toBeGreaterThan(ops.findIndex(({ object }) => object.kind === 'vxlan'));
    expect(renderStep(ops[places[0]!]!, PURE)).toEqual([`toy -n ${NETNS} create one dev vxlan0 secret a`]);
    const { failed } = await kernel.apply(asProduct(ops));
    expect(failed).toEqual([]);
    expect(diff(await kernel.observe(), desiredState(), PURE)).toEqual([]);
  });

  it('is changed in place, refused without its link and removed with it', async () => {
    const kernel = openKernel(desiredState().values());
    const before = peer('one');
    const op = { verb: 'change', object: peer('one', 'b'), before } as const;
    expect(diff(new Map([['x', before]]), new Map([['x', op.object]]), PURE)).toEqual([op]);
    expect(kernel.changeExternally(asProduct([op])[0]!)).toBeUndefined();
    const elsewhere = { verb: 'create', object: { ...peer('three'), dev: 'none' } } as const;
    const { failed } = await kernel.apply(asProduct([elsewhere]));
    expect(failed[0]?.error.message).toBe(`toy -n ${NETNS} create three dev none secret a: ENOENT`);
    const vxlan = kernel.state().get(`link ${NETNS} vxlan0`)!;
    kernel.changeExternally({ verb: 'delete', object: vxlan });
    expect([...kernel.state().values()].some((object: AnyObject) => object.kind === 'toy-peer')).toBe(false);
  });

  it('is read from JSON by who has it, and ignored by who has not', () => {
    const json = JSON.parse(JSON.stringify([peer('one')]));
    expect(stateFromData(json, PURE)).toEqual({ ok: true, value: new Map([[toyPeer.key(peer('one')), peer('one')]]) });
    expect(stateFromData(json, KINDS)).toEqual({ ok: true, value: new Map() });
    expect(stateFromData([{ ...json[0], secret: 7 }], PURE)).toMatchObject({ ok: false });
  });

  it('is sent as its Linux half says', () => {
    const [step] = stepsOf({ verb: 'create', object: peer('one') }, LINUX);
    expect(step).toMatchObject({ backend: 'netlink', netns: NETNS, usedLinks: ['vxlan0'] });
    expect(kindsRelatedTo('link', LINUX)).toContain('toy-peer');
  });

  it('is audited, and what was removed without an event is created again', async () => {
    const kernel = openKernel(desiredState().values());
    kernel.changeExternally(asProduct([{ verb: 'delete', object: peer('two') }])[0]!);
    const slices = auditSlices(LINUX).filter(({ scope }) =>
      (scope.kinds as string[] | undefined)?.includes('toy-peer'),
    );
    expect(slices).toHaveLength(1);
    const { scope } = slices[0]!;
    const desired = filterByScope(desiredState() as Map<string, KernelObject>, scope);
    const repair = diff(await kernel.observe(scope), desired, PURE);
    expect(repair).toEqual([{ verb: 'create', object: peer('two') }]);
    await kernel.apply(asProduct(repair));
    expect(diff(await kernel.observe(), desiredState(), PURE)).toEqual([]);
  });
});
