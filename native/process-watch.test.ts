import { spawn } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { processStartTime, signalProcess, watchProcess } from './index.ts';
import { cleanUp, onCleanup, run, runNode, waitFor } from './test-support.ts';

afterEach(cleanUp);

/** A process that is not our child: its parent has exited. */
function spawnUnrelatedProcess(): number {
  const pid = Number(run('bash', '-c', 'setsid sleep 1000 >/dev/null 2>&1 & echo $!'));
  onCleanup(() => process.kill(pid, 'SIGKILL'));
  return pid;
}

describe('watchProcess', () => {
  it('reports the end of a child and of another process, once', async () => {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    for (const pid of [child.pid!, spawnUnrelatedProcess()]) {
      let ends = 0;
      const watch = watchProcess(pid, () => {
        ends += 1;
      });
      onCleanup(() => watch.close());
      expect(watch.pid).toBe(pid);
      signalProcess(watch, 'SIGKILL');
      await waitFor(() => ends > 0, 'the end');
      expect(() => signalProcess(watch, 'SIGTERM')).toThrowError(expect.objectContaining({ code: 'ESRCH' }));
      watch.close();
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(ends).toBe(1);
    }
  });

  it('reports nothing after close', async () => {
    const pid = spawnUnrelatedProcess();
    let ends = 0;
    const closed = watchProcess(pid, () => {
      ends += 1;
    });
    let seen = false;
    watchProcess(pid, () => {
      seen = true;
    });
    closed.close();
    process.kill(pid, 'SIGKILL');
    await waitFor(() => seen, 'the end');
    expect(ends).toBe(0);
  });

  it('identifies a process by its start time', () => {
    const pid = spawnUnrelatedProcess();
    const startTime = processStartTime(pid);
    expect(startTime).toBeGreaterThan(0);
    expect(processStartTime(process.pid)).toBeLessThanOrEqual(startTime!);
    watchProcess(pid, () => {}, startTime).close();
    expect(() => watchProcess(pid, () => {}, startTime! - 1)).toThrowError(expect.objectContaining({ code: 'ESRCH' }));
    expect(() => watchProcess(2 ** 30, () => {})).toThrowError(expect.objectContaining({ code: 'ESRCH' }));
    expect(() => watchProcess(-1, () => {})).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    expect(processStartTime(2 ** 30)).toBeUndefined();
  });

  it('is not garbage-collected, and keeps the process alive only when ref()ed', async () => {
    const { output, status } = await runNode(
      `
      const child = require('node:child_process').spawn('sleep', ['1000'], { stdio: 'ignore' });
      child.unref();
      for (let i = 0; i < 50; i++) mesh.watchProcess(child.pid, () => console.log('ended')).ref();
      setTimeout(() => { global.gc(); child.kill(); }, 20);
      process.on('exit', () => console.log('done'));`,
      ['--expose-gc'],
    );
    expect(output).toBe(`${'ended\n'.repeat(50)}done\n`);
    expect(status).toBe(0);
    expect(await runNode('mesh.watchProcess(process.ppid, () => {});')).toMatchObject({ status: 0, output: '' });
  });

  it('turns an exception of the callback into an uncaughtException', async () => {
    const { output, status } = await runNode(`
      const child = require('node:child_process').spawn('true');
      process.on('uncaughtException', (error) => console.log('caught', error.message));
      mesh.watchProcess(child.pid, () => { throw new Error('mine'); }).ref();`);
    expect(output).toBe('caught mine\n');
    expect(status).toBe(0);
  });
});
