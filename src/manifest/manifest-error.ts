import { printable } from '../base/printable.ts';

/** An error in a manifest. */
export interface ManifestError {
  file: string;
  /** From 1; both are 1 when the whole file is meant. */
  line: number;
  column: number;
  /** Where in the document: `services.web.ports[0].published`; empty for the whole file. */
  path: string;
  message: string;
  /** How to fix it. */
  remedy: string;
}

export type Path = readonly (string | number)[];

/** A path in the usual notation: `services.web.ports[0]`; keys that are no words are quoted. */
export function pathText(path: Path): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (/^[\w-]+$/.test(step)) text += text === '' ? step : `.${step}`;
    else text += `[${JSON.stringify(shorten(step))}]`;
  }
  return text;
}

/** One line: `service.yaml:12:9: services.web.ports[1]: published port 70000 is outside 1-65535; choose one of 1-65535`. */
export function formatManifestError(error: ManifestError): string {
  const where = `${error.file}:${error.line}:${error.column}: `;
  return `${where}${error.path === '' ? '' : `${error.path}: `}${error.message}; ${error.remedy}`;
}

/** A piece of user input for a one-line message. */
export function shorten(text: string, length = 60): string {
  const line = printable(text);
  return line.length <= length ? line : `${line.slice(0, length - 1)}…`;
}
