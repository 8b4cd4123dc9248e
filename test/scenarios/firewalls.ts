// Published ports work beside the real rule sets of ufw, firewalld and Docker (test/fixtures/firewalls), whose rules stay
// unchanged. ufw closes INPUT and FORWARD (policy DROP), firewalld rejects at the end of its own nf_tables chains,
// Docker closes FORWARD.
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { addressOf, nodeNames, type ProbeClient, parseWhoami, run, runOn, stdoutOf, waitFor } from './harness.ts';
import { applyWeb, clientProbe, inet6Of, probeOn, urlOf } from './shared.ts';

const fixture = (name: string) => resolve('test/fixtures/firewalls', name);

interface Firewall {
  name: string;
  load: string;
  /** Dumps its rules from the kernel. */
  listing: string;
  unload: string;
}

/** All rules except meshd's, without counters. */
const FOREIGN = `for tool in iptables ip6tables; do $tool-save | grep -v -e MESH -e '^#' | sed 's/\\[.*//'; done`;
/** As the programs do it: rules are added to the existing ones. */
const loaded = (name: string): string =>
  `iptables-restore --noflush < ${fixture(`${name}.4`)} && ip6tables-restore --noflush < ${fixture(`${name}.6`)}`;
const SAVED = '/run/before-firewall';
const save = `iptables-save > ${SAVED}.4 && ip6tables-save > ${SAVED}.6`;
const restored = `iptables-restore < ${SAVED}.4 && ip6tables-restore < ${SAVED}.6`;

const FIREWALLS: Firewall[] = [
  { name: 'ufw', load: `${save} && ${loaded('ufw')}`, listing: FOREIGN, unload: restored },
  {
    name: 'firewalld',
    load: `nft -f ${fixture('firewalld.nft')}`,
    listing: `${FOREIGN}; nft list table inet firewalld`,
    unload: 'nft delete table inet firewalld',
  },
  { name: 'Docker', load: `${save} && ${loaded('docker')}`, listing: FOREIGN, unload: restored },
];

let outsideClient: ProbeClient;

const onEveryNode = async (command: string): Promise<string[]> =>
  Promise.all(nodeNames().map((node) => stdoutOf(runOn(node, 'sh', '-c', command))));

async function assertPublishedPortsAnswer(): Promise<void> {
  for (const node of nodeNames()) {
    for (const [address, client] of [
      [addressOf(node), addressOf('client')],
      [inet6Of(node), inet6Of('client')],
    ] as const) {
      // Both tasks: one of them is on another node and is reached over VXLAN.
      const tasks = new Set<string>();
      for (let call = 0; call < 2; call += 1) {
        const answer = parseWhoami(await outsideClient.http(urlOf(address, 8080)));
        assert.equal(answer.address, client);
        tasks.add(answer.task);
      }
      assert.equal(tasks.size, 2, `through ${address}`);
    }
    parseWhoami(await outsideClient.udp(addressOf(node), 5353).then((text) => text.trim()));
    parseWhoami(await (await probeOn(node)).http(urlOf('127.0.0.1', 8080)));
  }
}

// Not in a hook: hooks of all files run first, and another file applies `web` too.
test('a service with a TCP and a UDP port for the following tests', async () => {
  outsideClient = await clientProbe();
  await applyWeb({ replicas: 2 });
  await assertPublishedPortsAnswer();
});

for (const [index, { name, load, listing, unload }] of FIREWALLS.entries()) {
  test(`with the rules of ${name} published ports work through every node, and its rules stay unchanged`, async () => {
    await onEveryNode(load);
    try {
      const theirs = await onEveryNode(listing);
      await assertPublishedPortsAnswer();
      // A daemon started with these rules connects to its manager without drift.
      await stdoutOf(run('node-stop', ['3']));
      await stdoutOf(run('node-start', ['3']));
      await waitFor('node3 without drift', 60_000, async () => {
        const { status, stdout } = await runOn('node3', 'meshctl', 'diff', '--format', 'json');
        return status === 0 && JSON.parse(stdout)[0].steps.length === 0;
      });
      // And a port published while the rules exist.
      const added = 8100 + index;
      await applyWeb({ replicas: 2, ports: ['8080:80', '5353:53/udp', `${added}:80`] });
      for (const node of nodeNames()) parseWhoami(await outsideClient.http(urlOf(addressOf(node), added)));
      await assertPublishedPortsAnswer();
      assert.deepEqual(await onEveryNode(listing), theirs);
    } finally {
      await onEveryNode(unload);
    }
  });
}
