import type { PortSpec, Service } from '../rpc/gen/mesh.ts';
import { renderTable, truncate } from './table.ts';

/** `*:8080->80/tcp, *:9000-9009->90-99/udp`, runs of ports as one; a port without number waits for the manager. */
export function portsText(ports: readonly PortSpec[]): string {
  const runs: { published: number | undefined; target: number; protocol: string; length: number }[] = [];
  const sorted = [...ports].sort(
    (a, b) => a.protocol.localeCompare(b.protocol) || (a.published ?? 0) - (b.published ?? 0) || a.target - b.target,
  );
  for (const { published, target, protocol } of sorted) {
    const run = runs.at(-1);
    const follows =
      run !== undefined &&
      run.protocol === protocol &&
      run.target + run.length === target &&
      run.published !== undefined &&
      run.published + run.length === published;
    if (follows) run.length++;
    else runs.push({ published, target, protocol, length: 1 });
  }
  const span = (first: number, length: number) => (length === 1 ? `${first}` : `${first}-${first + length - 1}`);
  return runs
    .map(({ published, target, protocol, length }) => {
      const from = published === undefined ? '(auto)' : span(published, length);
      return `*:${from}->${span(target, length)}/${protocol}`;
    })
    .join(', ');
}

/** A command as one would type it. */
export function commandText(command: readonly string[]): string {
  return command.map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
}

export function serviceRow(service: Service) {
  const { id, name, spec, running, desired } = service;
  return {
    id,
    name,
    mode: spec?.mode ?? '',
    replicas: `${running}/${desired}`,
    running,
    desired,
    command: spec?.command ?? [],
    ports: spec?.ports ?? [],
    labels: spec?.labels ?? {},
  };
}

export function renderServices(services: readonly Service[]): string {
  return renderTable(
    ['ID', 'NAME', 'MODE', 'REPLICAS', 'COMMAND', 'PORTS'],
    services.map((service) => {
      const row = serviceRow(service);
      return [row.id, row.name, row.mode, row.replicas, truncate(commandText(row.command), 40), portsText(row.ports)];
    }),
  );
}
