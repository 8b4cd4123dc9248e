import { appliedRow, appliedText, printWarnings } from '../apply-result.ts';
import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { diffRow, renderSteps } from '../text/steps.ts';

/** `meshctl plan [FILE…]`: the kernel operations each node would execute; nothing is changed. */
export async function plan(context: Context, files: string[]): Promise<number> {
  const { io, format } = context;
  const services = files.length === 0 ? [] : await (await import('../manifest-files.ts')).readManifests(io, files);
  if (services === undefined) return 1;
  const reply = await (await context.api()).control.plan({ services: services });
  printWarnings(io, reply.services);
  if (format === 'json') {
    const services = reply.services.map((service) => ({ kind: 'service', ...appliedRow(service) }));
    const nodes = reply.nodes.map((node) => ({ kind: 'node', ...diffRow(node) }));
    io.out(renderJson([...services, ...nodes]));
  } else {
    io.out(lines(reply.services.map((service) => appliedText(service, true))));
    io.out(renderSteps(reply.nodes));
  }
  return reply.nodes.some(({ error }) => error !== '') ? 1 : 0;
}
