import { existsSync, readFileSync } from 'node:fs';
import type { TaskLaunch } from './runtime.ts';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The whole environment of a task; contains nothing of meshd's own. */
export function taskEnvironment({
  task,
  environment,
}: Pick<TaskLaunch, 'task' | 'environment'>): Record<string, string> {
  return {
    PATH: DEFAULT_PATH,
    HOME: homeDirectoryOf(task.process.user),
    ...task.process.environment,
    ...environment,
    MESH_TASK_ID: task.id,
    MESH_TASK_SLOT: String(task.slot),
    MESH_SERVICE: task.serviceName,
  };
}

/** As set by login(1); `/` for users missing in passwd(5). */
function homeDirectoryOf(user: string | undefined): string {
  const name = user?.split(':')[0] ?? String(process.getuid?.() ?? 0);
  try {
    for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
      const [login, , uid, , , home] = line.split(':');
      if (login === name || uid === name) return home || '/';
    }
  } catch {
    // No passwd file.
  }
  return '/';
}

const RESOLV_CONF = '/etc/resolv.conf';
/** The upstream configuration of systemd-resolved; its stub on 127.0.0.53 is not reachable from another netns. */
const UPSTREAM_RESOLV_CONF = '/run/systemd/resolve/resolv.conf';

/** The resolv.conf for a task: the host's, undefined if there is none. */
export function hostResolvConf(): string | undefined {
  if (!existsSync(RESOLV_CONF)) return undefined;
  const text = readFileSync(RESOLV_CONF, 'utf8');
  return text.includes('127.0.0.53') && existsSync(UPSTREAM_RESOLV_CONF)
    ? readFileSync(UPSTREAM_RESOLV_CONF, 'utf8')
    : text;
}
