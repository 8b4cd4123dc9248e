import type { PortSpec } from '../../model/spec.ts';
import type { Service } from '../../rpc/messages.ts';
import { lines } from './lines.ts';
import { conditionRow } from './port.ts';
import { renderTable, truncate } from './table.ts';

/**
 * `*:8080->80/tcp, 10.0.0.1:9000-9009->90-99/udp, *:81->81/tcp (host)`; consecutive ports are merged into ranges. The
 * manager, or in mode host each node, has yet to choose the number of an `(auto)` port.
 */
export function portsText(ports: readonly PortSpec[]): string {
  const runs: {
    published: number | undefined;
    target: number;
    protocol: string;
    mode: string;
    address: string;
    length: number;
  }[] = [];
  const sorted = [...ports].sort(
    (a, b) =>
      (a.protocol < b.protocol ? -1 : Number(a.protocol > b.protocol)) ||
      (a.published ?? 0) - (b.published ?? 0) ||
      a.target - b.target,
  );
  for (const { published, target, protocol, mode, addresses = [] } of sorted) {
    const at = addressText(addresses);
    const run = runs.at(-1);
    const extendsRun =
      run !== undefined &&
      run.protocol === protocol &&
      run.mode === mode &&
      run.address === at &&
      run.target + run.length === target &&
      run.published !== undefined &&
      run.published + run.length === published;
    if (extendsRun) run.length++;
    else runs.push({ published, target, protocol, mode, address: at, length: 1 });
  }
  const rangeText = (first: number, length: number) => (length === 1 ? `${first}` : `${first}-${first + length - 1}`);
  return runs
    .map(({ published, target, protocol, mode, address: at, length }) => {
      const from = published === undefined ? '(auto)' : rangeText(published, length);
      return `${at}:${from}->${rangeText(target, length)}/${protocol}${mode === 'host' ? ' (host)' : ''}`;
    })
    .join(', ');
}

/** The local addresses of a port in Docker's notation; of several the first. */
function addressText([first, ...more]: readonly string[]): string {
  if (first === undefined) return '*';
  const address = first.replace(/\/(32|128)$/, '');
  return `${address.includes(':') ? `[${address}]` : address}${more.length === 0 ? '' : ',…'}`;
}

/** A command quoted for a shell. */
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
    degraded: service.degraded.map(conditionRow),
  };
}

/** The columns of `docker service ls`; degraded ports follow below the table. */
export function renderServices(services: readonly Service[]): string {
  const table = renderTable(
    ['ID', 'NAME', 'MODE', 'REPLICAS', 'COMMAND', 'PORTS'],
    services.map((service) => {
      const row = serviceRow(service);
      return [
        row.id,
        row.name,
        row.mode,
        row.replicas,
        truncate(commandText(row.command), 40),
        portsText(service.spec?.ports ?? []),
      ];
    }),
  );
  const degraded = services.flatMap(({ name, degraded }) =>
    degraded.map(({ nodeName, message }) => `${name}: degraded on ${nodeName}: ${message}`),
  );
  return table + lines(degraded);
}
