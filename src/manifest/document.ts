import { Composer, CST, type Document, isScalar, LineCounter, Parser } from 'yaml';
import { type DocumentOptions, expand, pathKey, type SourcePositions } from './expand.ts';
import { LIMITS } from './limits.ts';
import { type ManifestError, type Path, pathText, shorten } from './manifest-error.ts';

/** One YAML document as plain data; every place in it can be found again. */
export interface ManifestDocument {
  file: string;
  /** Maps are objects, scalars under `textual` paths are text as written, variables are replaced. */
  value: unknown;
  /** An error at the value, or at the key, of a path; at the nearest enclosing place when the path is not there. */
  errorAt(path: Path, message: string, remedy: string, at?: 'key' | 'value'): ManifestError;
}

/**
 * Reads YAML into plain documents. Anchors, aliases and merge keys are expanded within the bounds of LIMITS.
 * Any input gives documents, or errors, or both; nothing is thrown.
 */
export function readDocuments(
  text: string,
  options: DocumentOptions,
): { documents: ManifestDocument[]; errors: ManifestError[] } {
  const { file } = options;
  const lines = new LineCounter();
  const errorFor = (offset: number, path: Path, message: string, remedy: string): ManifestError => {
    const { line, col } = lines.linePos(Math.max(0, Math.min(offset, text.length)));
    return { file, line: Math.max(1, line), column: Math.max(1, col), path: pathText(path), message, remedy };
  };
  const reject = (offset: number, message: string, remedy: string) => ({
    documents: [],
    errors: [errorFor(offset, [], message, remedy)],
  });

  if (text.length > LIMITS.textLength) return reject(0, ...TOO_LARGE);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that they are there is the point
  if (/[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text)) {
    return reject(0, 'is binary data', 'use a YAML file in UTF-8');
  }

  let parsed: Document.Parsed[];
  try {
    // The token parser does not recurse, the composer does: bound depth and number before it sees them.
    const tokens = [...new Parser(lines.addNewLine).parse(text)];
    const metrics = measureTokens(tokens);
    if (metrics.error !== undefined) {
      return reject(metrics.error.offset, ...yamlErrorText('UNEXPECTED_TOKEN', metrics.error.message));
    }
    if (metrics.depth > LIMITS.depth) {
      const remedy = 'close the brackets, or check the indentation';
      return reject(metrics.deepest, `is nested deeper than ${LIMITS.depth} levels`, remedy);
    }
    if (metrics.nodes > LIMITS.nodes) {
      return reject(0, `has more than ${LIMITS.nodes} values`, 'split it into several files');
    }
    const composer = new Composer({ uniqueKeys: false, prettyErrors: false, logLevel: 'silent', schema: 'core' });
    parsed = [...composer.compose(tokens, true, text.length)] as Document.Parsed[];
  } catch {
    return reject(0, 'is not valid YAML', 'check it with a YAML linter');
  }

  const budget = { nodes: LIMITS.nodes as number, characters: LIMITS.characters as number };
  const documents: ManifestDocument[] = [];
  const errors: ManifestError[] = [];
  for (const document of parsed) {
    const syntaxError = document.errors[0];
    // One syntax error causes many others: only the first one is useful.
    if (syntaxError !== undefined)
      return reject(syntaxError.pos[0], ...yamlErrorText(syntaxError.code, syntaxError.message));
    const tag = document.warnings.find((warning) => warning.code === 'TAG_RESOLVE_FAILED');
    if (tag !== undefined) {
      errors.push(errorFor(tag.pos[0], [], 'uses an unknown YAML tag', 'remove the tag (`!…`)'));
    }
    const { contents } = document;
    if (contents === null || (isScalar(contents) && contents.value === null)) continue;
    const places: SourcePositions = new Map();
    const value = expand(contents, {
      ...options,
      positions: places,
      budget,
      report: (offset, path, message, remedy) => errors.push(errorFor(offset, path, message, remedy)),
      lineOf: (offset) => lines.linePos(offset).line,
    });
    documents.push({
      file,
      value,
      errorAt(path, message, remedy, at = 'value') {
        let length = path.length;
        while (length > 0 && !places.has(pathKey(path.slice(0, length)))) length--;
        return errorFor(places.get(pathKey(path.slice(0, length)))?.[at] ?? 0, path, message, remedy);
      },
    });
  }
  return { documents, errors };
}

/** Message and remedy for a file longer than LIMITS.textLength, also used by readers that stop at that length. */
export const TOO_LARGE = [
  `is larger than ${LIMITS.textLength} characters`,
  'split it into several files, or use anchors and merge keys',
] as const;

/** Depth and number of the nodes of token trees, and the first invalid token; without recursion. */
function measureTokens(tokens: CST.Token[]) {
  let depth = 0;
  let deepest = 0;
  let nodes = 0;
  let error: { offset: number; message: string } | undefined;
  const stack: [CST.Token, number][] = tokens.map((token) => [token, 1]);
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const [token, level] = next;
    nodes++;
    if (level > depth) {
      depth = level;
      if (level <= LIMITS.depth + 1 && 'offset' in token) deepest = token.offset;
    }
    if (token.type === 'error' && (error === undefined || token.offset < error.offset)) error = token;
    if (token.type === 'document' && token.value !== undefined) stack.push([token.value, level]);
    if (!CST.isCollection(token)) continue;
    for (const item of token.items) {
      if (item.key) stack.push([item.key, level + 1]);
      if (item.value) stack.push([item.value, level + 1]);
    }
  }
  return { depth, deepest, nodes, error };
}

function yamlErrorText(code: string, message: string): [message: string, remedy: string] {
  if (code === 'TAB_AS_INDENT') return ['is not valid YAML: a tab is used as indentation', 'indent with spaces'];
  const remedy = 'check indentation, quotes and brackets at and before this place';
  return [`is not valid YAML: ${shorten(message, 120)}`, remedy];
}
