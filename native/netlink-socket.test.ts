import { closeSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { type NetlinkEvent, type NetlinkOptions, type NetlinkSocket, openNetlink, openNetns } from './index.ts';
import {
  acknowledged,
  cleanUp,
  freshNetns,
  linkName,
  linkRequest,
  type Message,
  NETLINK_ROUTE,
  NLM_F_DUMP,
  NLMSG_DONE,
  NLMSG_ERROR,
  onCleanup,
  parse,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
  run,
  waitFor,
} from './test-support.ts';

afterEach(cleanUp);

interface Opened {
  readonly socket: NetlinkSocket;
  readonly events: NetlinkEvent[];
  /** All messages so far. */
  messages(): Message[];
}

function open(options: Omit<NetlinkOptions, 'protocol'>): Opened {
  const events: NetlinkEvent[] = [];
  const socket = openNetlink({ protocol: NETLINK_ROUTE, ...options }, (event) => events.push(event));
  onCleanup(() => socket.close());
  const messages = () => events.flatMap((event) => (event.type === 'data' ? event.messages.flatMap(parse) : []));
  return { socket, events, messages };
}

function addLinks(netns: string, name: string, peer: string): void {
  run('ip', '-n', netns, 'link', 'add', name, 'type', 'veth', 'peer', 'name', peer);
}

/** RTM_NEWROUTE 10.99.0.0/24 with many next hops 10.9.0.2, acknowledged. */
function multipathRoute(link: number, count: number): Buffer {
  const attribute = (type: number, body: Buffer) => {
    const header = Buffer.alloc(4);
    header.writeUInt16LE(body.length + 4, 0);
    header.writeUInt16LE(type, 2);
    return Buffer.concat([header, body]);
  };
  const hop = Buffer.alloc(16); // rtnexthop, RTA_GATEWAY
  hop.writeUInt16LE(16, 0);
  hop.writeInt32LE(link, 4);
  hop.set([8, 0, 5, 0, 10, 9, 0, 2], 8);
  const message = Buffer.concat([
    Buffer.alloc(16),
    Buffer.from([2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]), // rtmsg: inet, /24, main, static, universe, unicast
    attribute(1, Buffer.from([10, 99, 0, 0])),
    attribute(9, Buffer.concat(Array.from({ length: count }, () => hop))),
  ]);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(24, 4);
  message.writeUInt16LE(0x605, 6); // request, ack, create, exclusive
  message.writeUInt32LE(1, 8);
  return message;
}

async function linkNames(opened: Opened, sequence = 1): Promise<(string | undefined)[]> {
  opened.socket.send(linkRequest(RTM_GETLINK, NLM_F_DUMP, sequence));
  const mine = () => opened.messages().filter((message) => message.sequence === sequence);
  await waitFor(() => mine().some((message) => message.type === NLMSG_DONE), 'the end of the dump');
  return mine()
    .filter((message) => message.type === RTM_NEWLINK)
    .map(linkName);
}

describe('synchronous receive', () => {
  it('delivers pending replies before it returns, each once', async () => {
    const { socket, events, messages } = open({ netns: freshNetns().path });
    socket.receive();
    expect(events).toEqual([]);
    socket.send(linkRequest(RTM_GETLINK, NLM_F_DUMP, 1));
    expect(events).toEqual([]);
    socket.receive();
    expect(messages().at(-1)?.type).toBe(NLMSG_DONE);
    const received = events.length;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(events.length).toBe(received);
    socket.close();
    expect(() => socket.receive()).toThrowError(expect.objectContaining({ code: 'EBADF' }));
  });
});

describe('opening in a namespace', () => {
  it('by path, descriptor and process shows the links of that namespace', async () => {
    const { name, path } = freshNetns();
    addLinks(name, 'left77', 'right77');
    const fd = openNetns(path);
    onCleanup(() => closeSync(fd));
    const { spawn } = await import('node:child_process');
    const sleeper = spawn('ip', ['netns', 'exec', name, 'sleep', '1000'], { stdio: 'ignore' });
    onCleanup(() => sleeper.kill('SIGKILL'));
    await waitFor(() => run('ip', 'netns', 'pids', name).trim() === String(sleeper.pid), 'the process to be inside');
    for (const options of [{ netns: path }, { netns: fd }, { netns: { pid: sleeper.pid! } }, { pid: sleeper.pid! }]) {
      expect((await linkNames(open(options))).sort()).toEqual(['left77', 'lo', 'right77']);
    }
    expect(await linkNames(open({}))).not.toContain('left77');
  });

  it('rejects anything but a namespace, and names the missing path', () => {
    expect(() => open({ netns: '/etc/passwd' })).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => open({ netns: '/run/netns/not-there' })).toThrowError(
      expect.objectContaining({ code: 'ENOENT', errno: -2, syscall: 'open' }),
    );
    expect(() => open({ netns: { pid: 2 ** 30 } })).toThrowError(expect.objectContaining({ code: 'ENOENT' }));
    expect(() => open({ netns: 9999 })).toThrowError(expect.objectContaining({ code: 'EBADF' }));
    expect(() => openNetlink({ protocol: 999 }, () => {})).toThrowError(expect.objectContaining({ syscall: 'socket' }));
  });

  it('requests large buffers', () => {
    expect(open({}).socket.receiveBufferBytes).toBeGreaterThanOrEqual(4 << 20);
    expect(open({ receiveBufferBytes: 100_000 }).socket.receiveBufferBytes).toBe(200_000);
  });
});

describe('sending and receiving', () => {
  it('sends many messages at once and receives every reply', async () => {
    const opened = open({ netns: freshNetns().path });
    const count = 2000;
    opened.socket.send(
      Buffer.concat(Array.from({ length: count }, (_, i) => linkRequest(RTM_GETLINK, 0, i + 1, i === 5 ? 999 : 1))),
    );
    await waitFor(() => opened.messages().length >= count, 'all replies');
    const answers = opened.messages();
    expect(answers.map((answer) => answer.sequence)).toEqual(Array.from({ length: count }, (_, i) => i + 1));
    expect(answers.filter((answer) => answer.type === NLMSG_ERROR).map((answer) => answer.sequence)).toEqual([6]);
    const wakeups = opened.events.filter((event) => event.type === 'data');
    expect(wakeups.length).toBeLessThan(count);
    for (const event of wakeups) expect(event.messages.length).toBeLessThan(300);
  });

  it('delivers the text of the extended ACK without echoing the request', async () => {
    const opened = open({ netns: freshNetns().path });
    // Strict checking: a dump request must not have flags.
    opened.socket.send(linkRequest(RTM_GETLINK, NLM_F_DUMP, 3, 0, 1));
    opened.socket.send(acknowledged(RTM_DELLINK, 4, 1));
    await waitFor(() => opened.messages().some((message) => message.sequence === 4), 'the reply');
    const texts = opened.messages().map((message) => message.body.toString('latin1'));
    expect(texts.join()).toMatch(/Invalid values in header for link dump request/);
    const refused = opened.messages().find((message) => message.sequence === 4);
    expect(refused?.type).toBe(NLMSG_ERROR);
    expect(refused?.body.readInt32LE(0)).toBeLessThan(0);
  });

  it('does not use strict checking if disabled', async () => {
    const opened = open({ netns: freshNetns().path, strict: false });
    opened.socket.send(linkRequest(RTM_GETLINK, NLM_F_DUMP, 3, 0, 1));
    await waitFor(() => opened.messages().some((message) => message.type === NLMSG_DONE), 'the end of the dump');
    expect(opened.messages().some((message) => message.type === NLMSG_ERROR)).toBe(false);
  });

  it('throws when the kernel rejects the buffer', () => {
    const { socket } = open({});
    expect(() => socket.send(Buffer.alloc(64 << 20))).toThrowError(
      expect.objectContaining({ code: 'EMSGSIZE', errno: -90, syscall: 'sendmsg' }),
    );
    socket.close();
    socket.close();
    expect(() => socket.send(Buffer.alloc(16))).toThrowError(expect.objectContaining({ code: 'EBADF' }));
    expect(() => socket.send('text' as unknown as Buffer)).toThrowError(TypeError);
  });

  it('joins and leaves multicast groups', async () => {
    const { name, path } = freshNetns();
    const linkGroup = 1; // RTNLGRP_LINK
    const opened = open({ netns: path, groups: [linkGroup] });
    const seen = () =>
      opened
        .messages()
        .filter((message) => message.type === RTM_NEWLINK)
        .map(linkName);
    addLinks(name, 'first', 'first-peer');
    await waitFor(() => seen().includes('first'), 'the event');
    opened.socket.dropMembership(linkGroup);
    addLinks(name, 'second', 'second-peer');
    opened.socket.addMembership(linkGroup);
    addLinks(name, 'third', 'third-peer');
    await waitFor(() => seen().includes('third'), 'the event after joining again');
    expect(seen()).not.toContain('second');
    opened.socket.setListenAllNsid(true);
    opened.socket.setListenAllNsid(false);
    expect(() => opened.socket.addMembership(100_000)).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('truncates no message, not even one above 64 KiB', async () => {
    const { name, path } = freshNetns();
    addLinks(name, 'd0', 'd1');
    for (const link of ['d0', 'd1']) run('ip', '-n', name, 'link', 'set', link, 'up');
    run('ip', '-n', name, 'address', 'add', '10.9.0.1/24', 'dev', 'd0');
    const opened = open({ netns: path, groups: [7] }); // RTNLGRP_IPV4_ROUTE
    const hops = 4095;
    opened.socket.send(multipathRoute(Number(run('ip', '-n', name, '-o', 'link', 'show', 'd0').split(':')[0]), hops));
    await waitFor(() => opened.messages().length >= 2, 'the event and the reply');
    const [event, answer] = opened.messages();
    expect(answer?.body.readInt32LE(0)).toBe(0);
    expect(event?.body.length).toBeGreaterThan(65_536);
    expect(event?.body.toString('hex').split('0a090002')).toHaveLength(hops + 1);
  });

  it('reports an overrun once, after the queued messages, and stays usable', async () => {
    const { name, path } = freshNetns();
    const opened = open({ netns: path, groups: [1], receiveBufferBytes: 4096 });
    addLinks(name, 'd0', 'd1');
    for (let i = 0; i < 20; i++) run('ip', '-n', name, 'link', 'set', 'd0', i % 2 ? 'down' : 'up');
    await waitFor(() => opened.events.some((event) => event.type === 'overrun'), 'the overrun');
    expect(opened.events.map((event) => event.type)).toEqual(['data', 'overrun']);
    addLinks(name, 'afterwards', 'afterwards-peer');
    await waitFor(() => opened.messages().map(linkName).includes('afterwards'), 'an event after the overrun');
    expect((await linkNames(opened, 77)).sort()).toEqual(['afterwards', 'afterwards-peer', 'd0', 'd1', 'lo']);
  });

  it('ignores datagrams that other processes send to the port', async () => {
    // On generic netlink every user may send to every port; only port 0 is the kernel.
    const events: NetlinkEvent[] = [];
    const socket = openNetlink({ protocol: 16 }, (event) => events.push(event));
    onCleanup(() => socket.close());
    run(
      'python3',
      '-c',
      `import socket
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
s.bind((0, 0))
s.sendto(b'\\x10\\0\\0\\0\\x02\\0\\0\\0' + b'\\0' * 8, (${socket.portId}, 0))`,
    );
    const request = Buffer.alloc(20); // an empty CTRL_CMD_GETFAMILY is rejected, so a reply arrives
    request.writeUInt32LE(20, 0);
    request.writeUInt16LE(0x10, 4);
    request.writeUInt16LE(5, 6);
    request.writeUInt32LE(42, 8);
    request.writeUInt8(3, 16);
    socket.send(request);
    const sequences = () =>
      events.flatMap((event) => (event.type === 'data' ? event.messages.flatMap(parse) : [])).map((m) => m.sequence);
    await waitFor(() => sequences().includes(42), 'the reply of the kernel');
    expect(sequences()).toEqual([42]);
  });
});
