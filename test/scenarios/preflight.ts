// Port conflicts with programs of the nodes, and meshctl doctor: each problem with the command that fixes it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { addressOf, applyManifest, listRows, meshctl, parseWhoami, run, runOn, stdoutOf, waitFor } from './harness.ts';
import { clientProbe, whoamiManifest } from './shared.ts';

interface ListeningProgram {
  pid: number;
  end(): void;
}

/** Starts a program with this name (/proc/PID/comm) that listens on every address of a node and returns its name over HTTP. */
async function listenOn(t: TestContext, host: string, name: string, port: number): Promise<ListeningProgram> {
  const code = `process.title = '${name}';
    require('node:http').createServer((q, r) => r.end('${name} itself')).listen(${port}, () => console.log(process.pid))`;
  return started(t, name, [host, 'node', '-e', code]);
}

/** Starts a program on a node; it prints its process number once it listens. */
async function started(t: TestContext, name: string, command: string[]): Promise<ListeningProgram> {
  const child: ChildProcess = spawn('on', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  const pid = await new Promise<number>((done, failed) => {
    child.stdout!.once('data', (text) => done(Number(text)));
    child.once('exit', (status) => failed(new Error(`${name} ended with ${status} before it listened`)));
  });
  let running = true;
  const program = {
    pid,
    end() {
      if (running) process.kill(pid);
      running = false;
    },
  };
  t.after(program.end);
  return program;
}

/** Like `listenOn`, with an executable named sshd that only root can change, so that nodes accept it as sshd. */
async function sshdOn(t: TestContext, host: string, port: number): Promise<ListeningProgram> {
  const path = '/run/mesh-sshd/sshd';
  await stdoutOf(runOn(host, 'mkdir', '-p', '/run/mesh-sshd'));
  await stdoutOf(runOn(host, 'gcc', '-o', `${path}.${port}`, resolve('test/scenarios/listener.c')));
  await stdoutOf(runOn(host, 'mv', `${path}.${port}`, path));
  return started(t, 'sshd', [host, path, String(port)]);
}

interface Degraded {
  node: string;
  kind: string;
  message: string;
}

/** Degraded nodes in `service inspect` and `port ls`, which must agree. */
async function degradedConditions(service: string): Promise<Degraded[]> {
  const [inspected] = await listRows('service', 'inspect', service);
  const ports = (await listRows('port', 'ls')).filter((port) => port['name'] === service);
  const listed = ports.flatMap((port) => port['degraded'] as Degraded[]);
  const found = inspected?.['degraded'] as Degraded[];
  assert.equal(listed.length, found.length);
  return found;
}

const fetchFrom = async (host: string, port: number) =>
  (await clientProbe()).http(`http://${addressOf(host)}:${port}/`, { timeout: 2_000 });

test('a program that listens on a port is reported before and after the port is published, until it exits', async (t) => {
  t.after(() => meshctl('service', 'rm', 'early'));
  const nginx = await listenOn(t, 'node2', 'nginx', 8086);
  const manifest = whoamiManifest({ name: 'early', replicas: 1, ports: ['8086:80'] });
  const warning = `port 8086/tcp is used by nginx (pid ${nginx.pid}) on node2; the published port takes precedence: clients of node2 reach service early instead`;
  await waitFor('a dry run warns', 30_000, async () => {
    const { status, stderr } = await applyManifest(manifest, '--dry-run');
    return status === 0 && stderr.includes(warning);
  });
  const applied = await applyManifest(manifest, '--timeout', '60s');
  assert.equal(applied.status, 0, applied.stderr);
  assert.ok(applied.stderr.includes(warning), applied.stderr);
  parseWhoami(await fetchFrom('node2', 8086));
  const [taken] = await waitFor('the port to be degraded', 30_000, async () => {
    const found = await degradedConditions('early');
    return found.length > 0 && found;
  });
  assert.equal(`${taken?.node} ${taken?.kind}`, 'node2 taken');
  assert.ok(taken?.message.includes(`nginx (pid ${nginx.pid}) listens on `), taken?.message);
  nginx.end();
  await waitFor('no degraded port', 30_000, async () => (await degradedConditions('early')).length === 0);
  parseWhoami(await fetchFrom('node2', 8086));
});

test('a port used by sshd on one node causes a warning, and the other nodes publish it; on two nodes it is rejected', async (t) => {
  t.after(() => meshctl('service', 'rm', 'remote'));
  const sshd = await sshdOn(t, 'node3', 2222);
  const manifest = whoamiManifest({ name: 'remote', replicas: 1, ports: ['2222:80'] });
  const warning = `port 2222/tcp is used by sshd (pid ${sshd.pid}) on node3, which keeps it`;
  await waitFor('it is warned of', 30_000, async () => {
    const { status, stderr } = await applyManifest(manifest, '--dry-run');
    return status === 0 && stderr.includes(warning);
  });
  const other = await sshdOn(t, 'node2', 2222);
  const refusal = await waitFor('the rejection', 30_000, async () => {
    const { status, stderr } = await applyManifest(manifest, '--dry-run');
    return status === 1 && stderr;
  });
  assert.match(refusal, /port 2222\/tcp is used by sshd \(pid \d+\) on node[23], which must stay reachable/);
  other.end();
  await waitFor(
    'the port to be accepted',
    30_000,
    async () => (await applyManifest(manifest, '--dry-run')).status === 0,
  );
  await stdoutOf(applyManifest(manifest, '--timeout', '60s'));
  parseWhoami(await fetchFrom('node1', 2222));
  assert.equal(await fetchFrom('node3', 2222), 'sshd itself');
  sshd.end();
});

test('a program that is only named sshd does not keep its port', async (t) => {
  t.after(() => meshctl('service', 'rm', 'claimed'));
  const impostor = await listenOn(t, 'node3', 'sshd', 2224);
  const manifest = whoamiManifest({ name: 'claimed', replicas: 1, ports: ['2224:80'] });
  const warning = `port 2224/tcp is used by sshd (pid ${impostor.pid}) on node3; the published port takes precedence: clients of node3 reach service claimed`;
  await waitFor('it is warned of', 30_000, async () =>
    (await applyManifest(manifest, '--dry-run')).stderr.includes(warning),
  );
  await stdoutOf(applyManifest(manifest, '--timeout', '60s'));
  parseWhoami(await fetchFrom('node3', 2224));
  impostor.end();
});

test('sshd started after the port is published gets the port on its node, and only there, until it exits', async (t) => {
  t.after(() => meshctl('service', 'rm', 'late'));
  await stdoutOf(applyManifest(whoamiManifest({ name: 'late', replicas: 1, ports: ['2223:80'] }), '--timeout', '60s'));
  parseWhoami(await fetchFrom('node2', 2223));
  const sshd = await sshdOn(t, 'node2', 2223);
  await waitFor('a response of sshd', 30_000, async () => (await fetchFrom('node2', 2223)) === 'sshd itself');
  parseWhoami(await fetchFrom('node1', 2223));
  const [withheld] = await waitFor('the port to be degraded', 30_000, async () => {
    const found = await degradedConditions('late');
    return found.length > 0 && found;
  });
  assert.equal(`${withheld?.node} ${withheld?.kind}`, 'node2 withheld');
  // For a port that is already published it is a warning, not an error.
  const again = await applyManifest(
    whoamiManifest({ name: 'late', replicas: 1, ports: ['2223:80'] }),
    '--timeout',
    '60s',
  );
  assert.equal(again.status, 0, again.stderr);
  assert.ok(again.stderr.includes(`port 2223/tcp is used by sshd (pid ${sshd.pid}) on node2, which keeps it`));
  sshd.end();
  await waitFor('a response of the service', 30_000, async () => parseWhoami(await fetchFrom('node2', 2223)));
  await waitFor('no degraded port', 30_000, async () => (await degradedConditions('late')).length === 0);
});

interface Finding {
  node: string;
  level: string;
  check: string;
  what: string;
  remedy: string;
}

/** Problems found by doctor. */
async function doctorProblems(): Promise<Finding[]> {
  const { status, stdout, stderr } = await meshctl('doctor', '--format', 'json');
  const found = (JSON.parse(stdout) as { name: string; findings: Omit<Finding, 'node'>[] }[]).flatMap((row) =>
    row.findings.filter(({ level }) => level !== 'ok').map((finding) => ({ ...finding, node: row.name })),
  );
  assert.equal(status, found.some(({ level }) => level === 'error') ? 1 : 0, stderr);
  return found;
}

/** The problems once every node has answered doctor in time: on a busy machine one may not. */
const problemsOfAllNodes = () =>
  waitFor('an answer of every node', 60_000, async () => {
    const found = await doctorProblems();
    return !found.some(({ what }) => what.includes('could not be asked')) && found;
  });

const findingsText = (found: readonly Finding[]) =>
  found.map(({ node, check, what }) => `${node} ${check}: ${what}`).join('\n');

/** Runs the suggested remedy on its node; the first if there are several. */
async function applyRemedy(finding: Finding): Promise<void> {
  await stdoutOf(runOn(finding.node, 'sh', '-c', finding.remedy.split(', or ')[0]!));
}

const waitUntilHealthy = () =>
  waitFor('no findings', 60_000, async () => {
    const found = await doctorProblems();
    if (found.length > 0) throw new Error(findingsText(found));
    return true;
  });

test('doctor reports no problems', async () => {
  await waitUntilHealthy();
  const { status, stdout } = await meshctl('doctor');
  assert.equal(status, 0, stdout);
  assert.match(stdout, /^\d+ checks on 3 nodes: all well\n$/);
  const verbose = await stdoutOf(meshctl('doctor', 'node1', '--verbose'));
  assert.match(verbose, /node2 answers through VXLAN, small packets and full ones/);
  assert.match(verbose, /^FROM \\ TO +node2 +node3$/m);
});

test('doctor finds VXLAN dropped in one direction, with the rule and the command that deletes it', async (t) => {
  const rule = [
    'PREROUTING',
    '-s',
    `${addressOf('node1')}/32`,
    '-p',
    'udp',
    '-m',
    'udp',
    '--dport',
    '4789',
    '-j',
    'DROP',
  ];
  t.after(() => runOn('node2', 'iptables', '-t', 'mangle', '-D', ...rule));
  await stdoutOf(runOn('node2', 'iptables', '-t', 'mangle', '-I', ...rule));
  const found = await problemsOfAllNodes();
  // The rule is the one cause: the paths that it breaks are in the matrix only.
  assert.deepEqual(
    found.filter(({ check }) => check === 'path'),
    [],
    findingsText(found),
  );
  const cause = found.find(({ check }) => check === 'firewall');
  assert.equal(cause?.node, 'node2', findingsText(found));
  assert.equal(cause?.remedy, `iptables -t mangle -D ${rule.join(' ')}`);
  assert.match((await meshctl('doctor')).stdout, /^node1 +.*lost\/lost/m);
  await applyRemedy(cause!);
  await waitUntilHealthy();
});

test('the overlay follows a smaller MTU of the underlay, and doctor reports that its nodes differ', async (t) => {
  const overlayMtu = async () => {
    const text = await stdoutOf(runOn('node2', 'ip', '-n', 'mesh-net-ingress', '-j', 'link', 'show', 'vxlan0'));
    return Number(JSON.parse(text)[0].mtu);
  };
  t.after(() => runOn('node2', 'ip', 'link', 'set', 'eth0', 'mtu', '1500'));
  await stdoutOf(runOn('node2', 'ip', 'link', 'set', 'eth0', 'mtu', '1400'));
  await waitFor('the smaller MTU', 10_000, async () => (await overlayMtu()) === 1_350);
  const found = await problemsOfAllNodes();
  assert.deepEqual(
    found.map(({ node, check }) => `${node} ${check}`).sort(),
    ['node1 mtu', 'node3 mtu'],
    findingsText(found),
  );
  assert.match(found[0]!.what, /only 1350 on another node/);
  await stdoutOf(runOn('node2', 'ip', 'link', 'set', 'eth0', 'mtu', '1500'));
  await waitFor('the former MTU', 10_000, async () => (await overlayMtu()) === 1_450);
  await waitUntilHealthy();
});

test('doctor finds strict rp_filter on a mesh link while another program keeps setting it', async (t) => {
  const turn = 'while :; do sysctl -qw net.ipv4.conf.vxlan0.rp_filter=1; sleep 0.2; done';
  const command = ['node3', 'ip', 'netns', 'exec', 'mesh-net-ingress', 'sh', '-c', `echo $$; ${turn}`];
  const child = spawn('on', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  const pid = await new Promise<number>((done) => child.stdout!.once('data', (text) => done(Number(text))));
  let turning = true;
  const stop = () => {
    if (turning) process.kill(pid);
    turning = false;
  };
  t.after(stop);
  const cause = await waitFor('the finding', 60_000, async () =>
    (await doctorProblems()).find(({ what }) => what.startsWith('rp_filter of vxlan0')),
  );
  stop();
  assert.equal(cause.node, 'node3');
  assert.equal(cause.remedy, 'ip netns exec mesh-net-ingress sysctl -w net.ipv4.conf.vxlan0.rp_filter=0');
  await applyRemedy(cause);
  await waitUntilHealthy();
});

test('doctor reports a node that does not respond, and checks the others', async (t) => {
  t.after(() => run('node-start', ['3'])); // does nothing if it is running
  await stdoutOf(run('node-stop', ['3']));
  const found = await waitFor('a finding about node3', 60_000, async () => {
    const now = await doctorProblems();
    return now.some(({ node }) => node === 'node3') && now;
  });
  assert.match(found.find(({ node }) => node === 'node3')!.what, /^node3 (is down|could not be asked: )/);
  await stdoutOf(run('node-start', ['3']));
  await waitUntilHealthy();
});
