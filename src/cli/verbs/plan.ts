import { appliedText, printWarnings } from '../apply-result.ts';
import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { diffRow, renderSteps } from '../text/steps.ts';

/** `meshctl plan [FILE…]`: what the kernels of the nodes would go through; nothing is changed. */
export async function plan(context: Context, files: string[]): Promise<number> {
  const { io, format } = context;
  const services = files.length === 0 ? [] : await (await import('../manifest-files.ts')).readManifests(io, files);
  if (services === undefined) return 1;
  const reply = await (await context.api()).control.plan({ services: services });
  printWarnings(io, reply.services);
  if (format === 'json') {
    const of = (kind: 'service' | 'node') => (row: object) => ({ kind, ...row });
    io.out(renderJson([...reply.services.map(of('service')), ...reply.nodes.map(diffRow).map(of('node'))]));
  } else {
    io.out(reply.services.map((service) => `${appliedText(service, true)}\n`).join(''));
    io.out(renderSteps(reply.nodes));
  }
  return reply.nodes.some(({ error }) => error !== '') ? 1 : 0;
}
