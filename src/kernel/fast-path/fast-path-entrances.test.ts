import { execFileSync, spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cleanUp, freshNetns, onCleanup } from '../../../native/test-support.ts';
import { diff } from '../../diff/diff.ts';
import { stateOf } from '../../model/kernel-state.ts';
import { ruleText } from '../../model/kinds/firewall-rule.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { TRANSLATED_PORTS, taskNetns } from '../../model/linux-names.ts';
import { renderOp } from '../../model/render.ts';
import { CAPABILITIES, threeNodes } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';

/**
 * One client port through two entrances of a node to one task, with the rules of the plan in this machine's kernel. Needs
 * root, iptables, ipset and python3.
 */

const CLIENT = '198.51.100.9';

const outside = freshNetns().name;
const inside = freshNetns().name;

function shell(script: string): string {
  return execFileSync('bash', ['-ec', script], { encoding: 'utf8' });
}

function applyRules(netns: string, objects: readonly KernelObject[], planned: string): void {
  const commands = diff(new Map(), stateOf(objects)).flatMap(renderOp);
  const here = (command: string) =>
    planned === 'host' ? `ip netns exec ${netns} ${command}` : command.replaceAll(planned, netns);
  shell(commands.map(here).join('\n'));
}

/** Answers with the port that it sees of the client. */
const SERVER = `
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], int(sys.argv[2])))
print('ready', flush=True)
while True:
    data, client = server.recvfrom(65535)
    server.sendto(b'%d' % client[1], client)
`;

/** From one socket to several addresses and ports, twice; prints where each answer came from and what it says. */
const ASK = `
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(('${CLIENT}', 40000))
sock.settimeout(5)
for where in sys.argv[1:] * 2:
    address, port = where.split(':')
    sock.sendto(b'x', (address, int(port)))
    answer, source = sock.recvfrom(65535)
    print('%s:%d' % source, answer.decode(), flush=True)
`;

async function serve(netns: string, address: string, port: number): Promise<void> {
  const words = ['netns', 'exec', netns, 'python3', '-c', SERVER, address, String(port)];
  const server = spawn('ip', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  onCleanup(() => server.kill());
  await new Promise((resolve) => server.stdout.once('data', resolve));
}

/** Sources of the answers and the ports that the server saw. */
function ask(...where: string[]): [string, number][] {
  const words = ['netns', 'exec', outside, 'python3', '-c', ASK, ...where];
  const lines = execFileSync('ip', words, { encoding: 'utf8' }).trim().split('\n');
  return lines.map((line) => {
    const [source = '', port] = line.split(' ');
    return [source, Number(port)];
  });
}

beforeAll(() => {
  shell(`ip -n ${outside} link add eth1 type veth peer name eth0 netns ${inside}
    for netns in ${outside} ${inside}; do ip -n $netns link set lo up; done
    ip -n ${outside} addr add ${CLIENT}/32 dev eth1; ip -n ${outside} link set eth1 up; ip -n ${inside} link set eth0 up`);
});
afterAll(cleanUp);

describe('two published ports of one target', () => {
  it('stay apart in the netns of the task', async () => {
    const assignment = threeNodes(['inet']);
    const [task] = assignment.tasks;
    const address = task!.addresses[0]!.address;
    assignment.tasks = [{ ...task!, redirects: [{ protocol: 'udp', from: 5354, to: 53 }] }];
    const netns = taskNetns(task!.id);
    const rules = [...plan(assignment, CAPABILITIES).values()].filter(
      (object) => object.netns === netns && ['chain', 'jump'].includes(object.kind),
    );
    shell(`ip -n ${outside} route add ${address}/32 dev eth1
      ip -n ${inside} addr add ${address}/32 dev eth0; ip -n ${inside} route add ${CLIENT}/32 dev eth0`);
    applyRules(inside, rules, netns);
    await serve(inside, '0.0.0.0', 53);

    const [first, second, ...again] = ask(`${address}:53`, `${address}:5354`);
    expect([first![0], second![0]]).toEqual([`${address}:53`, `${address}:5354`]);
    expect(first![1]).toBe(40_000);
    expect(second![1]).not.toBe(40_000);
    expect(again).toEqual([first, second]);
  });
});

describe('a further address of the node, beside the fast path of the host', () => {
  it('gives clients ports that host-in does not redirect', async () => {
    const lb = freshNetns().name;
    const host = freshNetns().name;
    const planned = [...plan(threeNodes(['inet']), { ...CAPABILITIES, fastPath: { link: 'eth0' } }).values()];
    // Without restricted ports: not every kernel has hash:net,port,net.
    const objects = planned.flatMap((object): KernelObject[] => {
      if (object.netns !== 'host') return [];
      if (object.kind === 'jump') return object.table === 'nat' ? [object] : [];
      if (object.kind === 'ipset') return object.type === 'bitmap:port' ? [object] : [];
      if (object.kind !== 'chain' || object.table !== 'nat') return [];
      return [{ ...object, rules: object.rules.filter((rule) => !ruleText(rule).includes('mesh-from')) }];
    });
    shell(`ip -n ${outside} link add eth2 type veth peer name eth0 netns ${host}
      ip -n ${host} link add mesh0 type veth peer name host0 netns ${lb}
      for netns in ${host} ${lb}; do ip -n $netns link set lo up; ip netns exec $netns sysctl -qw net.ipv4.ip_forward=1; done
      ip -n ${outside} link set eth2 up; ip -n ${outside} route add 192.0.2.0/24 dev eth2 src ${CLIENT}
      ip -n ${host} addr add 192.0.2.101/24 dev eth0; ip -n ${host} link set eth0 up; ip -n ${host} route add ${CLIENT}/32 dev eth0
      ip -n ${host} addr add 10.252.1.1/32 dev mesh0; ip -n ${host} link set mesh0 up; ip -n ${host} route add 10.252.1.2/32 dev mesh0
      ip -n ${lb} addr add 10.252.1.2/32 dev host0; ip -n ${lb} link set host0 up
      ip -n ${lb} route add 10.252.1.1/32 dev host0; ip -n ${lb} route add default via 10.252.1.1`);
    applyRules(host, objects, 'host');
    shell(
      `ip netns exec ${host} ipset add -exist mesh-pub-udp 5353; ip netns exec ${host} ipset add -exist mesh-pub-udp 5354`,
    );
    for (const port of [5353, 5354]) await serve(lb, '0.0.0.0', port);

    const answers = ask('192.0.2.101:5353', '192.0.2.101:5354');
    expect(answers.slice(0, 2)).toEqual(answers.slice(2));
    expect(answers.slice(0, 2).map(([source]) => source)).toEqual(['192.0.2.101:5353', '192.0.2.101:5354']);
    for (const [, port] of answers) {
      expect(port).toBeGreaterThanOrEqual(TRANSLATED_PORTS.from);
      expect(port).toBeLessThanOrEqual(TRANSLATED_PORTS.to);
    }
  }, 120_000);
});
