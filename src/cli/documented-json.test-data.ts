/** For tests: the JSON keys of each verb and object as docs/commands.md documents them, and a check against them. */

interface DocumentedKey {
  type: string;
  optional: boolean;
}
type Section = Map<string, DocumentedKey>;

/** The sections of the document by heading. A section without a JSON table is missing. */
export function readSections(markdown: string): Map<string, Section> {
  const sections = new Map<string, Section>();
  const references: [section: Section, other: string][] = [];
  let heading = '';
  const sectionOf = (name: string): Section => {
    const section = sections.get(name) ?? new Map();
    sections.set(name, section);
    return section;
  };
  for (const line of markdown.split('\n')) {
    heading = /^#{1,3} (.*)$/.exec(line)?.[1] ?? heading;
    const row = /^\| `([a-z0-9_]+)`(\??) \| ([^|]+) \|/.exec(line);
    const all =
      /^\| all keys of \| \[[^\]]+\]\(#([\w-]+)\) \|/.exec(line) ??
      /^JSON: the keys of \[[^\]]+\]\(#([\w-]+)\)/.exec(line);
    if (all !== null) references.push([sectionOf(heading), all[1]!.replaceAll('-', ' ')]);
    else if (row !== null && TYPE.test(row[3]!)) {
      sectionOf(heading).set(row[1]!, { type: row[3]!, optional: row[2] === '?' });
    }
  }
  for (const [section, other] of references) {
    for (const [key, documented] of sections.get(other) ?? []) if (!section.has(key)) section.set(key, documented);
  }
  return sections;
}

const SINGLE = String.raw`(?:text|number|boolean|time|map|null|list of text|(?:list of )?\[[a-z ]+\]\(#[\w-]+\))`;
const TYPE = new RegExp(`^${SINGLE}(?: or ${SINGLE})*$`);
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** How a row differs from the documented keys and types of its section; empty if it does not. */
export function differences(row: unknown, name: string, sections: Map<string, Section>, at = name): string[] {
  const section = sections.get(name);
  if (section === undefined) return [`docs/commands.md does not document the JSON of ${name}`];
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return [`${at} is not an object`];
  const found: string[] = [];
  for (const [key, { optional }] of section) {
    if (!optional && !Object.hasOwn(row, key)) found.push(`${at}.${key} is documented but missing`);
  }
  for (const [key, value] of Object.entries(row)) {
    const documented = section.get(key);
    if (documented === undefined) found.push(`${at}.${key} is not documented`);
    else found.push(...typeErrors(value, documented.type, sections, `${at}.${key}`));
  }
  return found;
}

function typeErrors(value: unknown, type: string, sections: Map<string, Section>, at: string): string[] {
  const alternatives = type.split(' or ').map((one) => singleTypeErrors(value, one, sections, at));
  return alternatives.find((errors) => errors.length === 0) ?? alternatives[0]!;
}

function singleTypeErrors(value: unknown, type: string, sections: Map<string, Section>, at: string): string[] {
  if (type.startsWith('list of ')) {
    if (!Array.isArray(value)) return [`${at} is not a list`];
    return value.flatMap((item, index) => singleTypeErrors(item, type.slice(8), sections, `${at}[${index}]`));
  }
  const object = /^\[([a-z ]+)\]/.exec(type)?.[1];
  if (object !== undefined) return differences(value, object, sections, at);
  const isOfType: Record<string, boolean> = {
    text: typeof value === 'string',
    number: typeof value === 'number',
    boolean: typeof value === 'boolean',
    null: value === null,
    time: value === null || (typeof value === 'string' && TIME.test(value)),
    map: typeof value === 'object' && value !== null && Object.values(value).every((one) => typeof one === 'string'),
  };
  return isOfType[type] ? [] : [`${at} is not of type ${type}: ${JSON.stringify(value)}`];
}
