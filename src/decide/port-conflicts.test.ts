import { describe, expect, it } from 'vitest';
import { renderAdmissionWarning } from '../model/admission-warning.ts';
import type { Listener } from '../model/cluster.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { node, service } from './cluster.test-data.ts';
import { portConflictWarnings as conflictWarnings, hostListeners } from './port-conflicts.ts';

const portConflictWarnings = (...given: Parameters<typeof conflictWarnings>) =>
  conflictWarnings(...given).map(renderAdmissionWarning);

const nodes = [1, 2].map((number) => node(number, { id: `n${number}`, name: `node${number}` }));
const nginx: Listener = { protocol: 'tcp', port: 8080, address: '0.0.0.0', pid: 812, process: 'nginx' };
const sshd: Listener = { protocol: 'tcp', port: 2222, address: '0.0.0.0', pid: 700, process: 'sshd', protected: true };
const web = (...ports: Partial<PortSpec>[]): ServiceSpec => ({
  ...service({ name: 'web' }).spec,
  ports: ports.map((port) => ({ protocol: 'tcp', target: 80, mode: 'ingress', ...port })),
});
const on2 = (...listeners: Listener[]) => hostListeners(nodes, (nodeId) => (nodeId === 'n2' ? listeners : []));

describe('listeners on ports of a service', () => {
  it('result in one warning for each program of a node', () => {
    expect(portConflictWarnings(web({ published: 8080 }), undefined, on2(nginx, { ...nginx, address: '::' }))).toEqual([
      'port 8080/tcp is used by nginx (pid 812) on node2; the published port takes precedence: clients of node2 reach service web instead',
    ]);
  });

  it('are ignored on other ports, protocols, nodes and addresses', () => {
    const view = on2(nginx);
    expect(portConflictWarnings(web({ published: 8081 }), undefined, view)).toEqual([]);
    expect(portConflictWarnings(web({ published: 8080, protocol: 'udp' }), undefined, view)).toEqual([]);
    const node1: PortSpec['nodes'] = [{ key: 'node.hostname', operator: '==', value: 'node1' }];
    expect(portConflictWarnings(web({ published: 8080, nodes: node1 }), undefined, view)).toEqual([]);
    const elsewhere = on2({ ...nginx, address: '192.0.2.7' });
    expect(
      portConflictWarnings(web({ published: 8080, addresses: ['198.51.100.0/24'] }), undefined, elsewhere),
    ).toEqual([]);
    expect(
      portConflictWarnings(web({ published: 8080, addresses: ['192.0.2.0/24'] }), undefined, elsewhere),
    ).toHaveLength(1);
    expect(portConflictWarnings(web({}), undefined, view)).toEqual([]);
  });

  it('result in a warning for a port of sshd on one node; the others publish it', () => {
    expect(portConflictWarnings(web({ published: 2222 }), undefined, on2(sshd))).toEqual([
      'port 2222/tcp is used by sshd (pid 700) on node2, which keeps it; service web is not reachable on that port there',
    ]);
  });

  it.each<[string, Partial<PortSpec>]>([
    ['several nodes', {}],
    ['the only node that would publish it', { nodes: [{ key: 'node.hostname', operator: '==', value: 'node2' }] }],
  ])('are a conflict for a port of sshd on %s', (_, port) => {
    const everywhere = hostListeners(nodes, () => [sshd]);
    expect(() => portConflictWarnings(web({ published: 2222, ...port }), undefined, everywhere)).toThrow(
      'must stay reachable',
    );
  });

  it('are reported with what to do', () => {
    const only = nodes.slice(1);
    const apply = (port: Partial<PortSpec>) => () =>
      portConflictWarnings(
        web(port),
        undefined,
        hostListeners(only, () => [sshd]),
      );
    expect(apply({ published: 2222 })).toThrow(
      'port 2222/tcp is used by sshd (pid 700) on node2, which must stay reachable: publish another port for service web, ' +
        'or leave node2 out (x-mesh: {ingress: {nodes: ["node.hostname != node2"]}})',
    );
    expect(apply({ published: 2222, mode: 'host' })).toThrow('placement constraint node.hostname != node2');
    const others: PortSpec['nodes'] = [{ key: 'node.hostname', operator: '!=', value: 'node2' }];
    expect(apply({ published: 2222, nodes: others })()).toEqual([]);
  });

  it('result only in a warning when sshd begins to listen on a port that the service already has', () => {
    const spec = web({ published: 2222 });
    expect(portConflictWarnings(spec, spec, on2(sshd))).toEqual([
      'port 2222/tcp is used by sshd (pid 700) on node2, which keeps it; service web is not reachable on that port there',
    ]);
  });

  it('are only counted after the twentieth', () => {
    const many = Array.from({ length: 25 }, (_, pid) => ({ ...nginx, pid }));
    const warnings = portConflictWarnings(web({ published: 8080 }), undefined, on2(...many));
    expect(warnings).toHaveLength(21);
    expect(warnings.at(-1)).toBe('programs on nodes use published ports in 5 more cases');
  });
});
