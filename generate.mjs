// Generates the types of src/rpc/*.proto into src/rpc/gen when they are missing or older than these.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { getExtension, hasExtension } from '@bufbuild/protobuf';
import { fileDesc } from '@bufbuild/protobuf/codegenv2';
import { file_google_protobuf_any, file_google_protobuf_descriptor } from '@bufbuild/protobuf/wkt';

const rpc = `${import.meta.dirname}/src/rpc`;
const sources = ['options.proto', 'mesh.proto', 'dispatch.proto', 'buf.gen.yaml'].map((file) => `${rpc}/${file}`);
const output = `${rpc}/gen/dispatch_pb.js`;

export function generate() {
  const changed = [...sources, import.meta.filename, `${import.meta.dirname}/package-lock.json`].map(
    (file) => statSync(file).mtimeMs,
  );
  if (existsSync(output) && statSync(output).mtimeMs >= Math.max(...changed)) return;
  const bin = `${import.meta.dirname}/node_modules/.bin`;
  // protoc-gen-es is started by its name's first line, which looks for node: this one, whatever else is installed.
  const path = [`${process.execPath.replace(/\/[^/]*$/, '')}`, process.env.PATH].join(':');
  execFileSync(`${bin}/buf`, ['generate', '--template', 'buf.gen.yaml'], {
    cwd: rpc,
    stdio: 'inherit',
    env: { ...process.env, PATH: path },
  });
  embedDescriptors();
}

/*
 * protoc-gen-es embeds the descriptor of a file as base64, to be decoded whenever a program starts: half of what it costs to
 * load the client. It becomes the decoded message as a literal here, in the schema and in the libraries' own files. The values
 * of custom options become properties of the options, by the names in options.proto; so no program needs descriptor.proto.
 */

/** Files that others import, by their names in generated code. */
const files = { file_google_protobuf_descriptor, file_google_protobuf_any };

function embedDescriptors() {
  for (const name of ['options', 'mesh', 'dispatch']) {
    const path = `${rpc}/gen/${name}_pb.js`;
    const source = readFileSync(path, 'utf8');
    files[`file_${name}`] = decoded(source).file;
    if (name !== 'options') writeFileSync(path, withLiteral(source, '../schema-file.ts'));
  }
}

const EMBEDDED = /fileDesc\("([A-Za-z0-9+/]*)"(?:, \[([\w, ]*)\])?\)/;

function decoded(source) {
  const [, base64, list = ''] = EMBEDDED.exec(source);
  const imports = list === '' ? [] : list.split(', ');
  return {
    file: fileDesc(
      base64,
      imports.map((name) => files[name]),
    ),
    imports,
  };
}

/** The code without its base64; `schemaFile` is where it finds that function. */
function withLiteral(source, schemaFile) {
  const { file, imports } = decoded(source);
  const needed = imports.filter((name) => name !== 'file_options');
  const literal = JSON.stringify(
    { ...file.proto, dependency: needed.map((name) => files[name].proto.name) },
    (_, value) => (value?.$unknown === undefined ? value : withCustomOptions(value)),
  );
  return source
    .replace(EMBEDDED, () => `schemaFile(${literal}, [${needed.join(', ')}])`)
    .replace(/import \{ file_options \} .*\n/, '')
    .replace(/import \{ fileDesc \} .*\n|fileDesc, /, '')
    .replace(/^import /m, `import { schemaFile } from "${schemaFile}";\nimport `);
}

function withCustomOptions({ $unknown, ...options }) {
  const message = { ...options, $unknown };
  for (const extension of files.file_options.extensions) {
    if (hasExtension(message, extension)) options[extension.name] = getExtension(message, extension);
  }
  return options;
}

/** esbuild plugin: descriptors of libraries as literals, too, and nothing loads descriptor.proto. */
export const literalDescriptors = {
  name: 'literal-descriptors',
  setup({ onLoad, onResolve }) {
    onLoad({ filter: /\/(protobuf\/(any|struct)|gen\/status)_pb\.js$/ }, ({ path }) => ({
      contents: withLiteral(readFileSync(path, 'utf8'), `${rpc}/schema-file.ts`),
    }));
    // Two modules of Connect take an enum from where descriptor.proto is.
    onResolve({ filter: /^@bufbuild\/protobuf\/wkt$/ }, ({ importer }) =>
      /\/protocol-connect\/(transport|handler-factory)\.js$/.test(importer)
        ? { path: `${import.meta.dirname}/src/main/no-descriptor-proto.ts` }
        : undefined,
    );
  },
};
