// Turns the strace logs of capture.sh (hex dumps of -e read=all -e write=all) into golden text on standard output:
// `$ command`, then `> hex` for each message sent and `< hex` for each datagram received.
import { readdirSync, readFileSync } from 'node:fs';

const directory = process.argv[2];

/** Messages of a sent datagram; some tools send their whole zeroed buffer, whose rest is dropped. */
function split(bytes) {
  const messages = [];
  for (let at = 0; at + 16 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < 16) break;
    messages.push(bytes.subarray(at, at + length));
    at += (length + 3) & ~3;
  }
  return messages;
}

/** 16 is RTM_NEWLINK as well as GENL_ID_CTRL, 18 RTM_GETLINK; 2 is a reply, with the type of the request at byte 24. */
function isLookup(message) {
  const type = message.readUInt16LE(4);
  const about = type === 2 && message.length >= 26 ? message.readUInt16LE(24) : type;
  return about === 16 || about === 18;
}

let ownLookups = 0;
for (const name of readdirSync(directory).sort()) {
  if (!name.endsWith('.trace')) continue;
  const lines = readFileSync(`${directory}/${name}`, 'latin1').split('\n');
  const command = readFileSync(`${directory}/${name.replace('.trace', '.cmd')}`, 'utf8').trim();
  console.log(`\n$ ${command}`);
  const keepLookups = / link /.test(command) || (command.startsWith('ipvsadm') && ownLookups++ === 0);
  let call = '';
  let hex = '';
  const flush = () => {
    const bytes = Buffer.from(hex, 'hex');
    hex = '';
    // A peek returns the bytes that the next call reads again.
    if (bytes.length < 16 || call.includes('MSG_PEEK')) return;
    if (isLookup(bytes) && !keepLookups) return;
    if (call.startsWith('send')) for (const message of split(bytes)) console.log(`> ${message.toString('hex')}`);
    else console.log(`< ${bytes.toString('hex')}`);
  };
  for (const line of lines) {
    if (/^(send|recv)/.test(line)) {
      flush();
      call = line;
    } else if (line.startsWith(' | ')) {
      hex += line.slice(10, 59).replaceAll(' ', '');
    }
  }
  flush();
}
