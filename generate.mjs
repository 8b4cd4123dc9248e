// Generates the types of src/rpc/*.proto into src/rpc/gen when they are missing or older than these.
import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';

const rpc = `${import.meta.dirname}/src/rpc`;
const output = `${rpc}/gen/dispatch_pb.js`;

export function generate() {
  const changed = ['mesh.proto', 'dispatch.proto', 'buf.gen.yaml', '../../package-lock.json'].map(
    (file) => statSync(`${rpc}/${file}`).mtimeMs,
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
}
