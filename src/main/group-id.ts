import { readFileSync } from 'node:fs';

/** The number of a group in /etc/group (group(5)); undefined when it does not exist or the file cannot be read. */
export function groupId(name: string, file = '/etc/group'): number | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  const line = text.split('\n').find((one) => one.startsWith(`${name}:`));
  const id = Number.parseInt(line?.split(':')[2] ?? '', 10);
  return Number.isInteger(id) ? id : undefined;
}
