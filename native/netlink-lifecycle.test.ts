import { afterEach, describe, expect, it } from 'vitest';
import { cleanUp, linkRequest, NLM_F_DUMP, RTM_GETLINK, runNode } from './test-support.ts';

afterEach(cleanUp);

/** A request with many replies, as source text. */
const dump = `Buffer.from('${linkRequest(RTM_GETLINK, NLM_F_DUMP, 1).toString('hex')}', 'hex')`;

describe('a netlink socket, in a separate process', () => {
  it('turns an exception of the callback into an uncaughtException and stays usable', async () => {
    const { status, output } = await runNode(`
      let events = 0, caught = 0;
      process.on('uncaughtException', (error) => {
        if (error.message !== 'mine') throw error;
        caught++;
        if (caught < 3) socket.send(${dump});
        else { console.log('events', events, 'caught', caught); socket.close(); }
      });
      const socket = mesh.openNetlink({ protocol: 0 }, () => { events++; throw new Error('mine'); }).ref();
      socket.send(${dump});`);
    expect(output).toMatch(/events 3 caught 3/);
    expect(status).toBe(0);
  });

  it('ends the process on an uncaught exception', async () => {
    const { status, signal, output } = await runNode(`
      mesh.openNetlink({ protocol: 0 }, () => { throw new Error('mine'); }).ref().send(${dump});`);
    expect({ status, signal }).toEqual({ status: 1, signal: null });
    expect(output).toMatch(/Error: mine/);
  });

  it('runs ticks and promises after the callback, and may close inside it', async () => {
    const { status, output } = await runNode(`
      const socket = mesh.openNetlink({ protocol: 0 }, () => {
        Promise.resolve().then(() => console.log('promise'));
        process.nextTick(() => console.log('tick'));
        socket.close();
      }).ref();
      socket.send(${dump});`);
    expect(output).toBe('tick\npromise\n');
    expect(status).toBe(0);
  });

  it('does not keep the process alive unless ref()ed, and exits inside a callback', async () => {
    expect(await runNode(`mesh.openNetlink({ protocol: 0 }, () => {}).ref().unref();`)).toMatchObject({ status: 0 });
    expect(
      await runNode(`mesh.openNetlink({ protocol: 0 }, () => process.exit(7)).ref().send(${dump});`),
    ).toMatchObject({ status: 7 });
  });

  it('closes what is collected and keeps what is ref()ed', async () => {
    const { status, output } = await runNode(
      `
      const { readdirSync, readlinkSync } = require('node:fs');
      const sockets = () => readdirSync('/proc/self/fd').filter((fd) => {
        try { return readlinkSync('/proc/self/fd/' + fd).startsWith('socket:'); } catch { return false; }
      }).length;
      const before = sockets();
      let events = 0;
      let kept;
      for (let i = 0; i < 100; i++) {
        // A callback that closes over its own socket must not keep it alive.
        const socket = mesh.openNetlink({ protocol: 0 }, () => socket.portId);
        socket.send(${dump});
      }
      (() => mesh.openNetlink({ protocol: 0, groups: [1] }, function () { events++; this.close(); }).ref())().send(${dump});
      console.log('opened', sockets() - before);
      let round = 0;
      const timer = setInterval(() => {
        global.gc();
        if (sockets() - before > 0 && ++round < 1000) return;
        console.log('left', sockets() - before, 'events', events);
        clearInterval(timer);
      }, 5);`,
      ['--expose-gc'],
    );
    expect(output).toBe('opened 101\nleft 0 events 1\n');
    expect(status).toBe(0);
  });

  it('survives the termination of workers that are busy inside the addon', async () => {
    const { status, output } = await runNode(`
      const { Worker } = require('node:worker_threads');
      const busy = \`
        const { parentPort, workerData } = require('node:worker_threads');
        const mesh = require(workerData);
        parentPort.postMessage('started');
        for (;;) {
          const socket = mesh.openNetlink({ protocol: 0 }, () => {});
          socket.send(${dump});
          try { mesh.openNetlink({ protocol: 0, netns: '/etc/passwd' }, () => {}); } catch {}
          try { mesh.inNetns('/proc/self/ns/net', () => { throw new Error('mine'); }); } catch {}
          socket.close();
        }\`;
      (async () => {
        for (let round = 0; round < 30; round++) {
          await new Promise((resolve) => {
            const worker = new Worker(busy, { eval: true, workerData: addonPath });
            worker.on('message', () => setTimeout(() => worker.terminate(), round % 4));
            worker.on('exit', resolve);
          });
        }
        console.log('main works');
      })();`);
    expect(output).toBe('main works\n');
    expect(status).toBe(0);
  });

  it('survives workers that exit, are terminated or throw with open sockets and pending events', async () => {
    const { status, output } = await runNode(`
      const { Worker } = require('node:worker_threads');
      const inWorker = (end) => \`
        const { parentPort, workerData } = require('node:worker_threads');
        const mesh = require(workerData);
        let events = 0;
        for (let i = 0; i < 20; i++) {
          const socket = mesh.openNetlink({ protocol: 0, groups: [1] }, () => {
            if (++events === 30) { \${end} }
            socket.send(${dump});
          }).ref();
          socket.send(${dump});
          mesh.openNetlink({ protocol: 0 }, () => {});
          mesh.watchProcess(process.ppid, () => {}).ref();
        }\`;
      const ended = (end) => new Promise((resolve) => {
        const worker = new Worker(inWorker(end), { eval: true, workerData: addonPath });
        worker.on('message', () => worker.terminate());
        worker.on('error', (error) => resolve('error ' + error.message));
        worker.on('exit', (code) => resolve('exit ' + code));
      });
      (async () => {
        for (let round = 0; round < 5; round++) {
          console.log(await ended('process.exit(3)'));
          console.log(await ended('parentPort.postMessage(1)'));
          console.log(await ended('throw new Error("mine")'));
        }
        mesh.openNetlink({ protocol: 0 }, () => { console.log('main works'); process.exit(0); }).ref().send(${dump});
      })();`);
    expect(output.trim().split('\n')).toEqual([
      ...Array.from({ length: 5 }, () => ['exit 3', 'exit 1', 'error mine']).flat(),
      'main works',
    ]);
    expect(status).toBe(0);
  });
});
