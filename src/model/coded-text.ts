import { printable } from '../base/printable.ts';

/** Values for the placeholders of a text, by name. */
export type TextParams = Readonly<Record<string, string>>;

/**
 * Something a node reports: a code and the values that belong to it. The text is rendered where people read it, so that
 * programs never have to parse it, and a reader of another version still shows codes it does not know.
 */
export interface CodedText {
  code: string;
  params: TextParams;
}

/** Names of the placeholders in a template: `'a' | 'b'` of `'{a} and {b}'`. */
export type ParamNames<Template extends string> = Template extends `${string}{${infer Name}}${infer Rest}`
  ? Name | ParamNames<Rest>
  : never;

/** Characters of one value; reports are bounded. */
const PARAM_LIMIT = 1_000;

/** The values as they are sent: printable, bounded. */
export function boundedParams(params: Readonly<Record<string, string | number>>): TextParams {
  return Object.fromEntries(
    Object.entries(params).map(([name, value]) => {
      const text = printable(String(value));
      return [name, text.length <= PARAM_LIMIT ? text : `${text.slice(0, PARAM_LIMIT - 1)}…`];
    }),
  );
}

/** The template with its values; `?` for a value that the sender, of another version, did not send. */
export function fillTemplate(template: string, params: TextParams): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => (Object.hasOwn(params, name) ? params[name]! : '?'));
}

/** A code that this version does not know, with its values: `DiskReadOnly (path /var/lib/meshd)`. */
export function renderUnknown({ code, params }: CodedText): string {
  const values = Object.entries(params).map(([name, value]) => `${name} ${value}`);
  return values.length === 0 ? code : `${code} (${values.join(', ')})`;
}
